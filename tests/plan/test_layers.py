from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.plan.layers import module_map, split_layers
from tests.plan.builders import shape, tiny


def loads(model, counts):
    read = [count * model.layer_bytes for count in counts]
    read[0 if model.tied else -1] += model.head_bytes + (0 if model.tied else model.norm_bytes)
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
    counts = split_layers(model, devices)
    placed = module_map(model, counts, names)
    of_layers = [placed[f"model.layers.{layer}"] for layer in range(layers)]
    assert sum(counts) == layers
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
    apart = module_map(untied, (2, 2), devices)
    together = module_map(tied, (2, 2), devices)
    assert (apart["model.embed_tokens"], apart["model.norm"], apart["lm_head"]) == ("cuda:4", "cuda:5", "cuda:5")
    assert (together["model.embed_tokens"], together["model.norm"], together["lm_head"]) == (
        "cuda:4",
        "cuda:5",
        "cuda:4",
    )


def test_the_norm_of_a_tied_model_never_stands_on_an_empty_gpu():
    assert module_map(tiny(1, tied=True), (0, 1, 0), ("cuda:0", "cuda:1", "cuda:2"))["model.norm"] == "cuda:1"
