import pytest

from specbatch.errors import DeviceError, SpecError
from tests.plan.builders import plan_of

RATIO = ("placement.strategy=multi_gpu_ratio", "placement.ratio={target: 3, drafter: 1}")


def devices(env, gpus="4xH100", overrides=(), drafter="qwen3-1.7b"):
    plan = plan_of(gpus, *overrides, env=env, drafter=drafter)
    return plan.strategy, [
        (replica.target.devices, tuple(device for drafter in replica.drafters for device in drafter.devices))
        for replica in plan.replicas
    ]


def test_devices_are_taken_as_given():
    env = {"TARGET_GPU": "cuda:3,cuda:1", "DRAFTER_GPU": "cuda:0"}
    assert devices(env) == ("multi_gpu_ratio", [(("cuda:3", "cuda:1"), ("cuda:0",))])


@pytest.mark.parametrize(
    ("target", "drafter", "strategy"),
    [("cuda:1", "cuda:1", "same"), ("cuda:1", "cuda:0", "separate"), ("cuda:0,cuda:1", "cuda:1", "multi_gpu_ratio")],
)
def test_the_strategy_is_named_after_the_devices(target, drafter, strategy):
    assert devices({"TARGET_GPU": target, "DRAFTER_GPU": drafter})[0] == strategy


def test_a_semicolon_parts_replicas():
    env = {"TARGET_GPU": "cuda:0;cuda:2", "DRAFTER_GPU": "cuda:1;cuda:3"}
    assert devices(env) == ("separate", [(("cuda:0",), ("cuda:1",)), (("cuda:2",), ("cuda:3",))])


def test_the_strategy_overrides_that_of_the_spec():
    assert devices({"GPU_STRATEGY": "same"}, overrides=RATIO)[0] == "same"
    assert devices({"GPU_STRATEGY": "auto"}, overrides=RATIO)[0] == "same"


def test_the_ratio_overrides_that_of_the_spec():
    env = {"TARGET_GPU_RATIO": "2", "DRAFTER_GPU_RATIO": "2"}
    assert devices(env, overrides=RATIO)[1] == [(("cuda:0", "cuda:1"), ("cuda:2", "cuda:3"))]


def test_half_a_ratio_leaves_the_rest_to_the_other_model():
    assert devices({"TARGET_GPU_RATIO": "1"}, overrides=RATIO)[1] == [(("cuda:0",), ("cuda:1", "cuda:2", "cuda:3"))]
    assert devices({"DRAFTER_GPU_RATIO": "2"})[1] == [(("cuda:0", "cuda:1"), ("cuda:2", "cuda:3"))]


def test_an_empty_variable_counts_as_not_set():
    assert devices({"GPU_STRATEGY": "", "TARGET_GPU": " "}) == devices({})


def test_a_target_alone_needs_only_its_own_devices():
    assert devices({"TARGET_GPU": "cuda:2,cuda:3"}, drafter=None)[1] == [(("cuda:2", "cuda:3"), ())]


def test_what_was_overridden_is_noted():
    plan = plan_of("4xH100", env={"GPU_STRATEGY": "same", "HOME": "/root"})
    assert "overridden by the environment: GPU_STRATEGY=same" in plan.notes


@pytest.mark.parametrize(
    ("env", "variable", "words"),
    [
        ({"GPU_STRATEGY": "both"}, "GPU_STRATEGY", "not a strategy"),
        ({"TARGET_GPU": "GPU-8f3a", "DRAFTER_GPU": "cuda:1"}, "TARGET_GPU", "not a device"),
        ({"TARGET_GPU": "0", "DRAFTER_GPU": "1"}, "TARGET_GPU", "not a device"),
        ({"TARGET_GPU": "cuda:0,", "DRAFTER_GPU": "cuda:1"}, "TARGET_GPU", "not a device"),
        ({"TARGET_GPU": "cuda:0,cuda:0", "DRAFTER_GPU": "cuda:1"}, "TARGET_GPU", "twice"),
        ({"TARGET_GPU": "cuda:0;cuda:1,cuda:2", "DRAFTER_GPU": "cuda:3;cuda:3"}, "TARGET_GPU", "different sizes"),
        ({"TARGET_GPU": "cuda:0;cuda:0", "DRAFTER_GPU": "cuda:1;cuda:2"}, "TARGET_GPU", "two replicas"),
        ({"TARGET_GPU": "cuda:0;cuda:1", "DRAFTER_GPU": "cuda:2;cuda:2"}, "DRAFTER_GPU", "two replicas"),
        ({"TARGET_GPU": "cuda:0;cuda:1", "DRAFTER_GPU": "cuda:2"}, "DRAFTER_GPU", "1 replica"),
        ({"TARGET_GPU": "cuda:0"}, "TARGET_GPU", "without DRAFTER_GPU"),
        ({"DRAFTER_GPU": "cuda:0"}, "DRAFTER_GPU", "without TARGET_GPU"),
        ({"TARGET_GPU_RATIO": "two"}, "TARGET_GPU_RATIO", "not a positive whole number"),
        ({"DRAFTER_GPU_RATIO": "0"}, "DRAFTER_GPU_RATIO", "not a positive whole number"),
        ({"TARGET_GPU_RATIO": "3", "DRAFTER_GPU_RATIO": "2"}, "TARGET_GPU_RATIO", "3 + drafter 2, but a replica has 4"),
        ({"TARGET_GPU_RATIO": "4"}, "TARGET_GPU_RATIO", "a replica has 4"),
        ({"TARGET_GPU_RATIO": "2", "GPU_STRATEGY": "same"}, "TARGET_GPU_RATIO", "GPU_STRATEGY is same"),
        ({"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:1", "TARGET_GPU_RATIO": "2"}, "TARGET_GPU_RATIO", "names 1"),
        (
            {"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:1", "GPU_STRATEGY": "same"},
            "GPU_STRATEGY",
            "describe separate",
        ),
        ({"GPU_STRATEGY": "multi_gpu_ratio"}, "GPU_STRATEGY", "no ratio is given"),
        ({"TARGET_GPU": "cuda:0+cuda:1", "DRAFTER_GPU": "cuda:2"}, "TARGET_GPU", "one target"),
        ({"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:1+cuda:1"}, "DRAFTER_GPU", "twice"),
        ({"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:1+"}, "DRAFTER_GPU", "not a device"),
        ({"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:1,cuda:2+cuda:3"}, "DRAFTER_GPU", "different sizes"),
        (
            {"TARGET_GPU": "cuda:0;cuda:1", "DRAFTER_GPU": "cuda:2;cuda:2+cuda:3"},
            "DRAFTER_GPU",
            "different sizes",
        ),
    ],
)
def test_a_wrong_variable_names_its_variable(env, variable, words):
    with pytest.raises(SpecError) as refused:
        devices(env)
    assert variable in [problem.path for problem in refused.value.problems]
    assert words in str(refused.value)
    assert all(problem.remedy for problem in refused.value.problems)


@pytest.mark.parametrize("env", [{"DRAFTER_GPU": "cuda:1", "TARGET_GPU": "cuda:0"}, {"GPU_STRATEGY": "separate"}])
def test_without_a_drafter_model_its_variables_are_refused(env):
    with pytest.raises(SpecError, match="no drafter model"):
        devices(env, drafter=None)


def test_replicas_of_the_spec_must_all_be_named():
    with pytest.raises(SpecError, match=r"names 1 replica\(s\), but placement\.replicas is 4"):
        devices({"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:0"}, overrides=["placement.replicas=4"])


@pytest.mark.parametrize("device", ["cuda:4", "cpu"])
def test_a_device_that_is_not_there_is_a_device_error(device):
    with pytest.raises(DeviceError, match=rf"TARGET_GPU: names {device}.*cuda:0 to cuda:3"):
        devices({"TARGET_GPU": device, "DRAFTER_GPU": "cuda:0"})


def test_too_few_gpus_for_the_strategy_is_a_device_error():
    with pytest.raises(DeviceError, match="separate needs 2 GPUs, there are 1"):
        devices({"GPU_STRATEGY": "separate"}, gpus="H100")


def test_the_cpu_has_nothing_to_divide():
    from specbatch.plan.gpus import cpu_shape
    from specbatch.plan.planner import make_plan
    from tests.plan.builders import job, shape

    env = {"GPU_STRATEGY": "multi_gpu_ratio", "DRAFTER_GPU_RATIO": "1"}
    with pytest.raises(SpecError) as refused:
        make_plan(job(0), shape("qwen3-0.6b"), shape("qwen3-0.6b"), [cpu_shape()], env)
    assert [problem.path for problem in refused.value.problems] == ["GPU_STRATEGY", "DRAFTER_GPU_RATIO"]
