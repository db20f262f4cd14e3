"""Placements over two GPUs: python -m pytest -m gpu tests/engine/graphs/gpu/test_two_gpus.py"""

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.request import SamplingParams
from tests.engine import tiny
from tests.engine.graphs import fast
from tests.engine.graphs.gpu.embedded import embedded_prompts, graphs_of, load_pair

pytestmark = pytest.mark.gpu


def layers_over(devices, layers=16):
    """An explicit map: embedding (and the tied head) first, layers in even stretches."""
    return {
        "model.embed_tokens": devices[0],
        "lm_head": devices[0],
        "model.norm": devices[-1],
        "model.rotary_emb": devices[0],
        **{f"model.layers.{i}": devices[i * len(devices) // layers] for i in range(layers)},
    }


@pytest.fixture(scope="module")
def on_one(pairs):
    """What one GPU gives in float32."""
    pair = pairs("float32")
    return placed(pair)[0]


def placed(pair, groups=None):
    rows = fast.requests(embedded_prompts(16, 8, 200), 32, [SamplingParams(), SamplingParams(0.8)])
    out, engine = fast.decode(
        pair.target, pair.drafter, rows, max_sequences=6, num_speculative_tokens=4, max_length=256, micro_batches=groups
    )
    return tiny.tokens(out, 16), engine


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("drafter_device", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("target_devices", [["cuda:0"], ["cuda:1"], ["cuda:0", "cuda:1"]])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_placements_over_two_gpus_give_the_same_tokens_by_captured_graphs(
    groups, target_devices, drafter_device, on_one
):
    target_map = layers_over(target_devices) if len(target_devices) > 1 else {"": target_devices[0]}
    pair = load_pair("float32", target_map, {"": drafter_device})
    tokens, engine = placed(pair, groups)
    assert tokens == on_one
    assert engine.stats.accepted > 0
    apart = len({*target_devices, drafter_device}) > 1
    assert (len(engine.runner.pair.lanes) > 1) == apart
    assert graphs_of(engine) >= len(target_devices)  # of a step: one a stage
    stages = [stage.device for stage in engine.runner.pair.target.stages]
    assert stages == [torch.device(device) for device in target_devices]
    assert torch.cuda.current_device() == 0


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("target_devices", [["cuda:0"], ["cuda:1"], ["cuda:0", "cuda:1"]])
@pytest.mark.parametrize("groups", [1, 2, 3, 5])
def test_a_drafter_on_each_gpu_gives_the_same_tokens(groups, target_devices, on_one):
    target_map = layers_over(target_devices) if len(target_devices) > 1 else {"": target_devices[0]}
    pair, other = load_pair("float32", target_map, {"": "cuda:0"}), load_pair("float32", None, {"": "cuda:1"})
    pair.drafter = ModelDrafter(pair.drafter.model, replicas=[other.drafter.model])
    tokens, engine = placed(pair, groups)
    assert tokens == on_one
    assert engine.stats.accepted > 0
    states = engine.runner.pair.drafting_states
    assert [state.device for state in states] == [torch.device("cuda", number) for number in range(min(groups, 2))]
    assert torch.cuda.current_device() == 0


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_rows_that_change_drafters_on_two_gpus_have_the_same_tokens(on_one):
    pair, other = load_pair("float32", None, {"": "cuda:0"}), load_pair("float32", None, {"": "cuda:1"})
    rows = fast.requests(embedded_prompts(16, 8, 200), 32, [SamplingParams(), SamplingParams(0.8)])
    drafter = ModelDrafter(pair.drafter.model, replicas=[other.drafter.model])
    engine = fast.engine(pair.target, drafter, max_sequences=6, num_speculative_tokens=4, max_length=256)
    seen = fast.regrouped_at_random(engine, seed=2)
    assert tiny.tokens(fast.finish(engine, rows), 16) == on_one
    assert len(set(seen)) > 2
