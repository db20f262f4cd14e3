import pytest

from specbatch.plan.advice.render import render
from specbatch.plan.gpus import parse_gpus
from specbatch.plan.planner import make_plan
from tests.plan.builders import job, plan_of, tiny


def text(*arguments, **others):
    return "\n".join(render(plan_of(*arguments, **others)))


def test_a_split_is_a_tree_of_gpus_with_layers_and_bytes():
    said = text("8xH100", "placement.strategy=multi_gpu_ratio", "placement.ratio={target: 6, drafter: 2}")
    lines = said.splitlines()
    first = next(line for line in lines if line.startswith("├── cuda:0"))
    last = next(line for line in lines if line.startswith("└── cuda:5"))
    assert "embedding, layers 0-6 " in first
    assert "layers 33-35, head" in last
    assert "  3.7 GiB " in first
    assert lines[lines.index(next(line for line in lines if line.startswith("├── cuda:0"))) - 1].split()[2:] == [
        "weights",
        "KV",
        "free",
        "rows",
    ]
    assert "  TARGET_GPU=cuda:0,cuda:1,cuda:2,cuda:3,cuda:4,cuda:5" in lines
    assert "  DRAFTER_GPU=cuda:6,cuda:7" in lines


def test_equal_replicas_are_printed_once_with_all_their_devices():
    said = text("4xH100")
    assert "Replica, 4 alike: cuda:0 | cuda:1 | cuda:2 | cuda:3" in said
    assert said.count("\ndrafter qwen3-1.7b\n") == 1


def test_wide_replicas_are_named_by_their_first_and_last_gpu():
    said = text("6xH100", "placement.strategy=multi_gpu_ratio", "placement.ratio={target: 2, drafter: 1}")
    assert "Replica, 2 alike: cuda:0 to cuda:2 | cuda:3 to cuda:5" in said


def test_what_does_not_fit_is_said_with_numbers_and_a_remedy():
    said = text("L4", "batching.maxSequences=64")
    assert "Memory: does NOT fit" in said
    assert "cuda:0 (L4-24GB) lacks" in said
    assert " -" in next(line for line in said.splitlines() if line.startswith("└── cuda:0"))
    assert "--set batching.maxSequences=" in said


def test_the_chosen_placement_is_marked_in_the_table():
    said = text("8xH100")
    marked = [line for line in said.splitlines() if line.startswith("*")]
    assert len(marked) == 1
    assert "8 replicas of same" in marked[0]


def test_a_target_alone_shows_no_columns_of_drafting():
    said = text("H100", drafter=None)
    assert "with drafts" not in said
    assert "acceptance" not in said
    assert "drafter: no model, so no GPU" in said


def test_a_gpu_without_layers_says_so():
    env = {"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:1,cuda:2,cuda:3"}
    plan = make_plan(job(4), tiny(8), tiny(1, tied=True), parse_gpus("4xH100"), env)
    lines = list(render(plan))
    start = lines.index("drafter tiny")
    assert [line.split("  ")[1].strip() for line in lines[start + 1 : start + 4]] == [
        "embedding, head",
        "layer 0",
        "nothing: more GPUs than layers",
    ]


def test_lines_hold_no_escape_codes_and_no_trailing_blanks():
    for line in render(plan_of("8xH100")):
        assert "\x1b" not in line
        assert line == line.rstrip()


@pytest.mark.parametrize("strategy", ["same", "auto"])
@pytest.mark.parametrize("gpus", ["8xH100", "8x12GB@0.6TB/s", "L4"])
@pytest.mark.parametrize("target", ["qwen3-8b", "llama-3-8b"])
def test_lines_fit_a_hundred_columns_and_say_what_to_do_first(gpus, target, strategy):
    lines = list(render(plan_of(gpus, f"placement.strategy={strategy}", target=target)))
    assert lines[0].startswith("Recommended: ")
    assert max(map(len, lines)) <= 100, max(lines, key=len)


def test_a_change_is_written_as_set_takes_it_and_never_broken_between_lines():
    plan = plan_of(
        "8xH100",
        "placement.strategy=multi_gpu_ratio",
        "placement.ratio={target: 6, drafter: 2}",
        "placement.replicas=1",
    )
    said = "\n".join(render(plan))
    for change in plan.recommendation.changes:
        assert f"--set {change}" in said
    assert "--set\n" not in said


def test_what_is_set_aside_is_said_part_by_part():
    said = text("H100")
    for part in ("driver and kernels 0.8 GiB", "recorded rounds 1.0 GiB", "activations", "logits", "margin"):
        assert part in " ".join(said.split())


def test_each_gpu_is_shown_with_the_rows_that_it_has_room_for_and_the_limit_is_named():
    plan = plan_of("2xL4", "placement.strategy=separate", "batching.maxLength=2048")
    lines = list(render(plan))
    of_target = next(line for line in lines if line.startswith("└── cuda:0"))
    of_drafter = next(line for line in lines if line.startswith("└── cuda:1"))
    assert int(of_target.split()[-1]) == plan.max_sequences < int(of_drafter.split()[-1])
    assert f"  Rows at once: {plan.max_sequences}, limited by the memory of cuda:0" in lines


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["batching.maxSequences=16"], "Rows at once: 16, as the spec has it"),
        (["batching.maxLength=300"], "Rows at once: 512, the most that maxSequences: auto takes"),
        (["batching.maxLength=2048"], "limited by the memory of cuda:0 to cuda:3"),
    ],
)
def test_what_limits_the_rows_is_said(overrides, why):
    assert why in text("4xH100", *overrides)


def test_the_gain_of_several_groups_over_one_is_said():
    plan = plan_of("2xH100", "placement.strategy=separate")
    said = " ".join("\n".join(render(plan)).split())
    assert f"{plan.ceiling.tokens_per_second / plan.ceiling.one_group:.2f} times one group's" in said
