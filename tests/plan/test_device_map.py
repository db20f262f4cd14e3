from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.plan.device_map import compare_with_actual, place_model, split_layers
from specbatch.plan.gpus import parse_gpus
from tests.plan.builders import plan_of, shape, tiny


def loads(model, counts):
    layer = model.span().params // model.num_layers
    read = [count * layer for count in counts]
    read[0 if model.tied else -1] += model.head + (0 if model.tied else model.after)
    return read


def all_splits(layers, devices):
    for cuts in combinations(range(layers + devices - 1), devices - 1):
        edges = (-1, *cuts, layers + devices - 1)
        yield tuple(after - before - 1 for before, after in pairwise(edges))


def test_qwen3_8b_on_six_gpus_puts_fewer_layers_beside_its_heavy_head():
    assert split_layers(shape("qwen3-8b"), 6) == (7, 7, 7, 6, 6, 3)


def test_a_tied_head_lightens_the_first_gpu_instead_of_the_last():
    counts = split_layers(shape("qwen3-1.7b"), 2)
    assert counts[0] < counts[1]


@given(layers=st.integers(1, 100), devices=st.integers(1, 12), tied=st.booleans())
def test_every_layer_is_placed_exactly_once_in_order(layers, devices, tied):
    model = tiny(layers, tied=tied)
    names = [f"cuda:{index + 3}" for index in range(devices)]  # groups need not start at cuda:0
    placed = place_model(model, names).device_map
    of_layers = [placed[f"model.layers.{layer}"] for layer in range(layers)]
    assert len(placed) == layers + 4
    assert of_layers == sorted(of_layers, key=names.index)
    assert set(placed.values()) <= set(names)


@given(layers=st.integers(1, 100), devices=st.integers(1, 12), tied=st.booleans())
def test_the_split_is_never_worse_than_an_even_one(layers, devices, tied):
    model = tiny(layers, tied=tied)
    even = [layers // devices + (index < layers % devices) for index in range(devices)]
    assert max(loads(model, split_layers(model, devices))) <= max(loads(model, even))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("layers", "devices"), [(1, 3), (4, 2), (7, 3), (9, 4), (6, 5)])
def test_no_other_split_is_better(layers, devices, tied):
    model = tiny(layers, tied=tied)
    best = min(
        (max(loads(model, split)), sum(x * x for x in loads(model, split))) for split in all_splits(layers, devices)
    )
    found = loads(model, split_layers(model, devices))
    assert (max(found), sum(x * x for x in found)) == best


def test_the_head_stands_with_the_last_layers_unless_it_is_the_embedding():
    devices = ("cuda:4", "cuda:5")
    untied, tied = tiny(4), tiny(4, tied=True)
    apart = place_model(untied, devices).device_map
    together = place_model(tied, devices).device_map
    assert (apart["model.embed_tokens"], apart["model.norm"], apart["lm_head"]) == ("cuda:4", "cuda:5", "cuda:5")
    assert (together["model.embed_tokens"], together["model.norm"], together["lm_head"]) == (
        "cuda:4",
        "cuda:5",
        "cuda:4",
    )


def test_the_norm_of_a_tied_model_never_stands_on_an_empty_gpu():
    placed = place_model(tiny(1, tied=True), ("cuda:0", "cuda:1", "cuda:2"))
    assert [stage.num_layers for stage in placed.stages] == [0, 1, 0]
    assert placed.device_map["model.norm"] == "cuda:1"


TWO_GPUS = plan_of("2xH100", drafter=None, env={"TARGET_GPU": "cuda:0,cuda:1"}).replicas[0].target


def loaded(placement):
    return {f"{name}.weight": device for name, device in placement.device_map.items()}


def test_a_placement_as_planned_has_no_differences():
    assert compare_with_actual(TWO_GPUS, loaded(TWO_GPUS)) == []


def test_a_tied_head_and_a_rotary_embedding_may_be_missing():
    actual = {
        name: device for name, device in loaded(TWO_GPUS).items() if not name.startswith(("lm_head", "model.rotary"))
    }
    assert compare_with_actual(TWO_GPUS, actual) == []


def test_a_layer_elsewhere_is_named_with_both_devices():
    actual = loaded(TWO_GPUS) | {"model.layers.35.weight": "cuda:0"}
    assert compare_with_actual(TWO_GPUS, actual) == ["model.layers.35.weight is on cuda:0, planned for cuda:1"]


def test_layer_1_is_not_taken_for_layer_10():
    actual = loaded(TWO_GPUS) | {"model.layers.1.weight": "cuda:1"}
    assert compare_with_actual(TWO_GPUS, actual) == ["model.layers.1.weight is on cuda:1, planned for cuda:0"]


def test_what_the_plan_does_not_name_and_what_was_not_loaded_are_differences():
    actual = {name: device for name, device in loaded(TWO_GPUS).items() if name != "model.norm.weight"}
    actual["score.weight"] = "cuda:0"
    assert compare_with_actual(TWO_GPUS, actual) == [
        "score.weight is on cuda:0, the plan does not name it",
        "model.norm was planned for cuda:1, but nothing of it was loaded",
    ]


def test_a_map_of_the_whole_model_covers_everything():
    whole = replace(TWO_GPUS, device_map={"": "cpu"})
    assert compare_with_actual(whole, {"any.weight": "cpu"}) == []
    assert compare_with_actual(whole, {"any.weight": "cuda:0"}) == ["any.weight is on cuda:0, planned for cpu"]


def test_alike_gpus_change_nothing_of_a_split():
    assert split_layers(shape("qwen3-8b"), 6, parse_gpus("6xH100")) == split_layers(shape("qwen3-8b"), 6)


@pytest.mark.parametrize(
    ("gpus", "more", "less"), [("H100,L4", 0, 1), ("L4,H100", 1, 0), ("A100-80GB,A100-40GB", 0, 1), ("H200,H100", 0, 1)]
)
def test_of_different_gpus_the_faster_or_larger_takes_more_layers(gpus, more, less):
    counts = split_layers(shape("qwen3-8b"), 2, parse_gpus(gpus))
    assert sum(counts) == 36
    assert counts[more] > counts[less]


def test_a_slow_gpu_takes_as_long_as_a_fast_one():
    """An L4 of a tenth of an H100's bandwidth: no split leaves the slower of them less to read."""
    model, gpus = shape("qwen3-8b"), parse_gpus("H100,L4")

    def slowest(counts):
        layer = model.layers[0].params
        return max(
            (count * layer + head) / gpu.bandwidth
            for count, head, gpu in zip(counts, (0, model.head), gpus, strict=True)
        )

    best = min(range(37), key=lambda first: slowest((first, 36 - first)))
    assert split_layers(model, 2, gpus)[0] == pytest.approx(best, abs=1)
