"""What a plan recommends, and that `--set` of just that gives it."""

import pytest

from specbatch.plan.gpus import parse_gpus
from specbatch.plan.planner import make_plan
from tests.plan.builders import job, plan_of, shape

RATIO = ("placement.strategy=multi_gpu_ratio", "placement.ratio={target: 6, drafter: 2}", "placement.replicas=1")


def recommended(*arguments, **others):
    return plan_of(*arguments, **others).recommendation


def followed(gpus, *overrides, target, drafter, changes):
    """The plan of the same spec with the changes."""
    shapes = parse_gpus(gpus)
    drafts = drafter and "drafter=null" not in changes
    return make_plan(
        job(len(shapes), *overrides, *changes, drafter=drafter),
        shape(target),
        shape(drafter) if drafts else None,
        shapes,
    )


SPLIT = [("H100", ["decoding.numSpeculativeTokens=5"]), ("8xH100", RATIO), ("2xH100", ["placement.strategy=separate"])]
ANY = [
    ("H100", []),
    ("8xH100", ["placement.replicas=2"]),
    ("3xL40S", []),
    ("2x20GB@0.6TB/s", ["placement.strategy=same", "batching.maxLength=1024"]),
    ("4x12GB@0.6TB/s", ["placement.strategy=same", "batching.maxLength=1024"]),
    ("A100-80GB,A100-40GB", []),
    ("2xH100,2xL4", ["placement.replicas=2"]),
    ("L4", ["batching.maxSequences=200"]),
    ("H100", ["batching.maxSequences=900"]),
    ("H100", ["batching.maxSequences=4"]),
    ("L4", ["batching.maxLength=1048576"]),
    ("8GB@1TB/s", []),
]


@pytest.mark.parametrize(
    ("gpus", "overrides", "drafter"),
    [
        *[(*case, drafter) for case in ANY for drafter in ("qwen3-1.7b", "qwen3-0.6b", None)],
        *[(*case, drafter) for case in SPLIT for drafter in ("qwen3-1.7b", "qwen3-0.6b")],
    ],
)
def test_what_is_recommended_comes_out_of_the_spec_with_just_those_changes_and_is_the_best_there(
    gpus, overrides, drafter
):
    advised = recommended(gpus, *overrides, drafter=drafter)
    if not advised.changes:
        assert advised.placement is not None
        return
    if any("placement.gpus" in change for change in advised.changes):
        count = int(advised.changes[0].split("=")[1])
        gpus = f"{count}x{gpus}"
    after = followed(gpus, *overrides, target="qwen3-8b", drafter=drafter, changes=advised.changes)
    assert after.fits
    if advised.placement is None:
        return
    assert after.ceiling.tokens_per_second == pytest.approx(advised.tokens_per_second)
    assert after.recommendation.changes == ()
    assert after.recommendation.tokens_per_second == pytest.approx(advised.tokens_per_second)


def test_a_spec_that_is_the_best_is_left_as_it_is():
    advised = recommended("8xH100", drafter="qwen3-0.6b", acceptance_rate=0.9)
    assert (advised.placement, advised.changes) == ("8 replicas of same", ())
    assert "times what it gives without drafts, at k = " in advised.reason
    assert "The target alone (--set drafter=null): at most " in advised.advice[0]


@pytest.mark.slow
def test_a_split_gives_way_to_what_auto_takes_and_it_is_said_how_much_faster_that_is():
    plan = plan_of("8xH100", *RATIO, drafter="qwen3-0.6b", acceptance_rate=0.9)
    auto = plan_of("8xH100", drafter="qwen3-0.6b", acceptance_rate=0.9)
    advised = plan.recommendation
    assert advised.placement == "8 replicas of same" == auto.alternatives[0].describe()
    assert advised.changes == ("placement.strategy=auto", "placement.ratio=null", "placement.replicas=auto")
    times = auto.ceiling.tokens_per_second / plan.ceiling.tokens_per_second
    assert f"{times:.1f} times the {plan.ceiling.tokens_per_second:,.0f} of multi_gpu_ratio 6:2" in advised.reason


def test_a_drafter_that_takes_the_rows_memory_is_left_out_but_not_for_few_rows():
    plan = plan_of("H100")
    advised = plan.recommendation
    assert (advised.placement, advised.changes) == ("the target alone", ("drafter=null",))
    alone = plan.alternatives[-1]
    assert advised.tokens_per_second == alone.ceiling.tokens_per_second
    assert f"leave room for {plan.max_sequences} rows at once in place of {alone.max_sequences}" in advised.reason
    few = int(advised.advice[0].split("fewer than about ")[1].split()[0].replace(",", ""))
    assert recommended("H100", f"batching.maxSequences={min(few, plan.max_sequences)}").changes == ()


def test_a_drafter_that_promises_more_but_too_little_more_is_left_out_with_that_reason():
    plan = plan_of("2xH200", "batching.maxLength=2048")
    times = plan.ceiling.tokens_per_second / plan.recommendation.tokens_per_second
    assert plan.recommendation.placement == "the target alone, 2 replicas"
    assert 1 < times < 1.1
    said = f"A drafter must promise 1.1 times the speed to be recommended, and this is {times:.2f}."
    assert plan.recommendation.reason.endswith(said)
    assert plan.to_dict()["recommendation"]["reason"] == plan.recommendation.reason
    assert "must promise" not in plan_of("H100").recommendation.reason  # which promises less


def test_rows_that_the_spec_limits_keep_the_drafter():
    assert recommended("H100", "batching.maxSequences=16").changes == ()


def test_variables_that_would_override_the_changes_are_to_be_unset():
    advised = recommended("2xH100", env={"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:1"})
    assert advised.unset == ("TARGET_GPU", "DRAFTER_GPU")
    assert advised.changes == ("drafter=null",)


def test_more_rows_than_fit_are_answered_with_how_many_would():
    advised = recommended("H100", "batching.maxSequences=900")
    assert "900 rows at once do not fit" in advised.reason
    assert advised.changes[-1].startswith("batching.maxSequences=")


def test_where_nothing_fits_more_gpus_are_recommended_or_none_is_enough():
    assert recommended("8GB@1TB/s", "batching.maxLength=512").changes[0].startswith("placement.gpus=")
    advised = recommended("2x0.5GB@1TB/s")
    assert (advised.placement, advised.changes) == (None, ())
    assert "no number of these GPUs is enough" in advised.reason


def test_on_a_cpu_the_drafter_stays_and_a_run_is_to_tell():
    plan = make_plan(job(0), shape("qwen3-0.6b"), shape("qwen3-0.6b"), [])
    assert plan.recommendation.changes == ()
    assert any("only a run tells" in sentence for sentence in plan.recommendation.advice)


@pytest.mark.parametrize(
    ("gpus", "overrides", "drafter", "meaning"),
    [
        ("8xH100", ["batching.maxSequences=4"], "qwen3-0.6b", "target and drafter together on each GPU"),
        ("H100", [], None, "the whole target on one GPU"),
        ("2x12GB@0.6TB/s", ["batching.maxLength=1024"], None, "the target's layers over 2 GPUs"),
        (
            "2x22GB@0.6TB/s",
            ["batching.maxLength=1024", "batching.maxSequences=4"],
            "qwen3-1.7b",
            "the target on one GPU, the drafter on the next",
        ),
    ],
)
def test_a_placement_is_explained_to_who_does_not_know_its_name(gpus, overrides, drafter, meaning):
    assert recommended(gpus, *overrides, drafter=drafter, acceptance_rate=0.95).meaning == meaning


def test_a_placement_that_is_better_by_its_gpus_stays_though_it_does_not_draft():
    plan = plan_of("2xH100,1xL4", "batching.maxLength=2048")
    assert plan.ceiling.num_speculative_tokens == 0
    alone = plan.alternatives[-1]
    assert plan.ceiling.tokens_per_second > alone.ceiling.tokens_per_second
    assert plan.recommendation.changes == ()
