import json
import sys
from pathlib import Path

import pytest

from specbatch.errors import DeviceError, ModelError, SpecError
from specbatch.plan import planner
from specbatch.plan.gpus import cpu_shape, parse_gpus
from specbatch.plan.planner import make_plan
from specbatch.plan.shapes.model_shape import LayerShape, ModelShape
from specbatch.plan.shapes.read_shape import shape_from_config
from specbatch.plan.types import GpuShape, ModelPlacement, Speculation
from tests.plan.builders import config, job, plan_of, shape

RATIO = "placement.strategy=multi_gpu_ratio"


def devices(plan):
    return [(replica.target.devices, replica.drafter.devices if replica.drafter else ()) for replica in plan.replicas]


def test_auto_takes_replicas_of_same_where_the_pair_fits_one_gpu():
    plan = plan_of("8xH100")
    assert plan.strategy == "same"
    assert devices(plan) == [((f"cuda:{i}",), (f"cuda:{i}",)) for i in range(8)]


def test_auto_takes_separate_where_only_one_model_fits_a_gpu():
    plan = plan_of("2x20GB@0.6TB/s", "batching.maxLength=1024", target="qwen3-8b", drafter="qwen3-1.7b")
    assert plan.strategy == "separate"
    assert devices(plan) == [(("cuda:0",), ("cuda:1",))]


def test_auto_takes_a_ratio_where_the_target_needs_several_gpus():
    plan = plan_of("4x12GB@0.6TB/s", "batching.maxLength=1024")
    assert plan.strategy == "multi_gpu_ratio"
    assert plan.fits
    assert len(plan.replicas[0].target.devices) >= 2


def test_auto_spreads_a_target_alone_where_one_gpu_is_too_small():
    plan = plan_of("2x12GB@0.6TB/s", "batching.maxLength=1024", drafter=None)
    assert devices(plan) == [(("cuda:0", "cuda:1"), ())]
    assert plan.fits


def test_given_replicas_use_their_whole_share_of_the_gpus():
    assert devices(plan_of("4xH100", "placement.replicas=2")) == [
        (("cuda:0",), ("cuda:1",)),
        (("cuda:2",), ("cuda:3",)),
    ]


@pytest.mark.parametrize(
    ("gpus", "overrides", "expected"),
    [
        ("2xH100", ["placement.strategy=same"], [(("cuda:0",), ("cuda:0",)), (("cuda:1",), ("cuda:1",))]),
        ("2xH100", ["placement.strategy=separate"], [(("cuda:0",), ("cuda:1",))]),
        (
            "6xH100",
            [RATIO, "placement.ratio={target: 2, drafter: 1}"],
            [(("cuda:0", "cuda:1"), ("cuda:2",)), (("cuda:3", "cuda:4"), ("cuda:5",))],
        ),
    ],
)
def test_a_strategy_deals_the_gpus_out_in_order(gpus, overrides, expected):
    assert devices(plan_of(gpus, *overrides)) == expected


def test_a_ratio_of_six_to_two_is_the_example_of_the_design():
    plan = plan_of("8xH100", RATIO, "placement.ratio={target: 6, drafter: 2}")
    target = plan.replicas[0].target
    assert [stage.num_layers for stage in target.stages] == [7, 7, 7, 6, 6, 3]
    assert [stage.has_head for stage in target.stages] == [False] * 5 + [True]
    assert plan.env_strings == {
        "GPU_STRATEGY": "multi_gpu_ratio",
        "TARGET_GPU": "cuda:0,cuda:1,cuda:2,cuda:3,cuda:4,cuda:5",
        "DRAFTER_GPU": "cuda:6,cuda:7",
        "TARGET_GPU_RATIO": "6",
        "DRAFTER_GPU_RATIO": "2",
    }
    assert plan.replicas[0].drafter.device_map["model.layers.0"] == "cuda:6"


def test_the_cpu_takes_both_models_whole():
    plan = make_plan(job(0), shape("qwen3-0.6b"), shape("qwen3-0.6b"), [cpu_shape(32 << 30)])
    assert plan.replicas[0].target.device_map == {"": "cpu"}
    assert plan.replicas[0].drafter.device_map == {"": "cpu"}
    assert plan.max_sequences == 8
    again = make_plan(job(0), shape("qwen3-0.6b"), shape("qwen3-0.6b"), [cpu_shape(32 << 30)], plan.env_strings)
    assert again.replicas == plan.replicas


def test_the_rows_of_the_spec_are_kept():
    assert plan_of("H100", "batching.maxSequences=7").max_sequences == 7


def test_a_fixed_k_decides_the_slack_of_the_cache_and_the_ceiling():
    plan = plan_of("H100", "decoding.numSpeculativeTokens=3", "batching.maxSequences=10", "batching.maxLength=1000")
    assert plan.ceiling.num_speculative_tokens == 3
    assert plan.speculation == Speculation(3, is_adaptive=False)
    assert plan.replicas[0].target.kv_bytes == 10 * 1024 * shape("qwen3-8b").kv_bytes_per_token


def test_a_target_alone_drafts_nothing():
    plan = plan_of("H100", drafter=None)
    assert plan.ceiling.tokens_per_second == plan.ceiling.target_only
    assert plan.speculation == Speculation(0, is_adaptive=False)
    assert "draft" not in plan.recommendation.reason


def test_ngram_lookup_needs_no_gpu_and_assumes_a_low_acceptance():
    spec = job(1, "drafter={method: ngram}")
    plan = make_plan(spec, shape("qwen3-8b"), None, parse_gpus("H100"))
    assert plan.replicas[0].drafter is None
    assert plan.ceiling.acceptance_rate == pytest.approx(0.3)
    assert plan.ceiling.tokens_per_second > plan.ceiling.target_only


def test_exactly_one_alternative_is_the_chosen_one():
    for plan in (plan_of("8xH100"), plan_of("3xH100"), plan_of("H100", drafter=None)):
        assert [one.chosen for one in plan.alternatives].count(True) == 1
        assert plan.alternatives[0].ceiling == plan.ceiling


def test_idle_gpus_are_pointed_out():
    assert any("idle: cuda:2" in note for note in plan_of("3xH100", env={"GPU_STRATEGY": "separate"}).notes)


@pytest.mark.parametrize("key", ["num_nextn_predict_layers", "mtp_num_hidden_layers"])
def test_layers_for_drafting_that_are_not_used_are_told(key):
    target = shape_from_config(config("qwen3-8b") | {key: 2}, "own")
    notes = make_plan(job(2), target, None, parse_gpus("2xH100")).notes
    assert any("target own: it brings 2 layers for drafting (MTP), not loaded here" in note for note in notes)
    assert not any("MTP" in note for note in plan_of("2xH100").notes)


@pytest.mark.parametrize("given", [1, 3])
def test_a_count_of_gpus_that_is_not_the_specs_is_refused(given):
    with pytest.raises(DeviceError, match=rf"placement\.gpus: is 2, but there are {given} GPUs"):
        make_plan(job(2), shape("qwen3-8b"), None, parse_gpus(f"{given}xH100"))


def test_a_model_of_unknown_module_names_is_never_split():
    unknown = shape_from_config(config("qwen3-8b") | {"model_type": "newcomer"}, "new")
    plan = make_plan(job(8), unknown, None, parse_gpus("8xH100"))
    assert plan.replicas[3].target.device_map == {"": "cuda:3"}
    assert any("is estimated, as if built like Llama" in note for note in plan.notes)
    with pytest.raises(ModelError, match="cannot be spread"):
        make_plan(job(4), unknown, None, parse_gpus("4xH100"), {"TARGET_GPU": "cuda:0,cuda:1"})


def test_a_model_of_unknown_module_names_cannot_have_the_replicas_that_would_split_it():
    unknown = shape_from_config(config("qwen3-8b") | {"model_type": "newcomer"}, "new")
    with pytest.raises(ModelError, match="cannot be spread"):
        make_plan(job(4, "placement.replicas=1"), unknown, None, parse_gpus("4xH100"))
    small = make_plan(job(1), unknown, None, parse_gpus("8GB@1TB/s"))
    assert "no number of these GPUs is enough" in small.problems[-1]


@pytest.mark.slow
def test_a_ratio_of_six_to_two_becomes_a_device_map_within_a_dozen_calls():
    """Whoever follows a ratio from the spec through this package goes through at most twelve calls to its first device map; a property is no call."""
    spec = job(8, RATIO, "placement.ratio={target: 6, drafter: 2}")
    target, drafter, gpus = shape("qwen3-8b"), shape("qwen3-1.7b"), parse_gpus("8xH100")
    package = str(Path(planner.__file__).parent)
    properties = {
        value.fget.__code__
        for kind in (ModelShape, LayerShape, GpuShape)
        for value in vars(kind).values()
        if isinstance(value, property)
    }
    calls = []
    placed = []

    def count(frame, event, result):
        code = frame.f_code
        if placed or not code.co_filename.startswith(package):
            return
        if event == "call" and code not in properties and not code.co_name.startswith("<"):
            calls.append(code.co_qualname)
        elif event == "return" and isinstance(result, ModelPlacement):
            placed.append(result)

    sys.setprofile(count)
    try:
        make_plan(spec, target, drafter, gpus)
    finally:
        sys.setprofile(None)
    assert len(set(placed[0].device_map.values())) == 6
    assert {"make_plan", "lay_out", "split_layers"} <= set(calls)
    assert len(calls) <= 12, calls


def test_the_plan_is_plain_json():
    plan = plan_of("8xH100")
    data = json.loads(json.dumps(plan.to_dict()))
    assert data["replicas"][7]["target"]["device_map"]["lm_head"] == "cuda:7"
    assert data["devices"][0]["free_bytes"] == plan.devices[0].free_bytes
    assert data["models"]["target"]["kv_bytes_per_token"] == 147456
    assert data["speculation"] == {"max_k": 8, "is_adaptive": True}
    assert data["devices"][0]["reserve_bytes"] == sum(data["devices"][0]["reserve"].values())
    assert data["recommendation"]["changes"] == ["drafter=null"]
    assert data["max_speculative_tokens"] == 8  # as before `speculation`: readers may have it


@pytest.mark.slow
@pytest.mark.parametrize("gpus", range(1, 9))
@pytest.mark.parametrize("drafter", ["qwen3-0.6b", None])
def test_a_plan_comes_out_again_from_its_own_environment_strings(gpus, drafter):
    plan = plan_of(f"{gpus}xL4", "batching.maxLength=1024", drafter=drafter)
    again = plan_of(f"{gpus}xL4", "batching.maxLength=1024", drafter=drafter, env=dict(plan.env_strings))
    assert devices(again) == devices(plan)
    assert again.env_strings == plan.env_strings
    assert again.ceiling == plan.ceiling


def test_a_spec_error_of_the_environment_names_every_variable_at_once():
    with pytest.raises(SpecError) as refused:
        plan_of("2xH100", env={"GPU_STRATEGY": "spread", "TARGET_GPU": "GPU-8f3a", "TARGET_GPU_RATIO": "-1"})
    assert [problem.path for problem in refused.value.problems] == ["GPU_STRATEGY", "TARGET_GPU_RATIO", "TARGET_GPU"]
