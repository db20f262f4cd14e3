"""On a real GPU: python -m pytest -m gpu tests/engine/general/test_gpu.py (needs torch and transformers only)."""

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from specbatch.embedded import path as embedded
from specbatch.engine.config import EngineConfig
from specbatch.engine.counter_rng import Purpose, exponentials, position_keys
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.make_engine import general_engine
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.speculation.depth import Speculation
from tests.engine import tabular, tiny

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def on_gpu():
    model = tiny.qwen3()
    rows = tiny.prompts()
    expected = tiny.greedy_reference(model, rows, 40)  # on the CPU
    return SimpleNamespace(
        prompts=rows,
        expected=expected,
        noisy=ModelDrafter(CausalLM(tiny.noisy(model).cuda()), prefill_chunk=32),
        twin=ModelDrafter(CausalLM(copy.deepcopy(model).cuda()), prefill_chunk=32),
        target=CausalLM(model.cuda()),
    )


def requests(pair):
    return [Request(str(i), prompt, 40) for i, prompt in enumerate(pair.prompts)]


@pytest.mark.parametrize("batch", [1, 8, 32])
@pytest.mark.parametrize("k", [0, 1, 4, None])
def test_greedy_tokens_on_the_gpu_are_those_of_the_cpu(on_gpu, batch, k):
    for drafter in (on_gpu.noisy, NGramDrafter()):
        out, _ = tiny.decode(on_gpu.target, drafter, requests(on_gpu), max_sequences=batch, num_speculative_tokens=k)
        assert tiny.tokens(out, len(on_gpu.prompts)) == on_gpu.expected


def test_a_drafter_that_is_the_target_is_always_accepted_on_the_gpu(on_gpu):
    for rule in ("coupled", "rejection"):
        rows = [
            Request(str(i), prompt, 40, sampling=SamplingParams(0.8 * (i % 2)))
            for i, prompt in enumerate(on_gpu.prompts)
        ]
        _, engine = tiny.decode(
            on_gpu.target, on_gpu.twin, rows, max_sequences=5, num_speculative_tokens=4, acceptance_rule=rule
        )
        assert engine.stats.acceptance_rate > 0.999


def test_cpu_and_gpu_draw_the_same_streams():
    keys = position_keys(torch.arange(100) * 7919, torch.arange(20).expand(100, 20), Purpose.TOKEN)
    on_device = position_keys(torch.arange(100).cuda() * 7919, torch.arange(20).cuda().expand(100, 20), Purpose.TOKEN)
    assert torch.equal(keys, on_device.cpu())
    torch.testing.assert_close(
        exponentials(keys, torch.arange(100)),
        exponentials(on_device, torch.arange(100).cuda()).cpu(),
        rtol=1e-5,
        atol=0,
    )


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_the_sampled_distribution_on_the_gpu_is_the_targets(rule, monkeypatch):
    params = [SamplingParams(1.0), SamplingParams(0.7, top_k=4, top_p=0.9)]
    target, drafter = tabular.tables()
    real = tabular.TabularLM

    def on_device(table):
        model = real(table.cuda())
        model.input_device = torch.device("cuda", 0)
        return model

    monkeypatch.setattr(tabular, "TabularLM", on_device)
    tokens, _ = tabular.sample(target, drafter, params, 50_000, k=2, new_tokens=2, rule=rule)
    for start, (param, rows) in enumerate(zip(params, tokens, strict=True)):
        assert tabular.p_value(rows, start, tabular.exact_joint(target, param, 2)) > 0.001


def test_a_gpu_that_is_nearly_full_halves_the_batch_and_changes_no_token(on_gpu):
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(free - 300 * 2**20, dtype=torch.uint8, device="cuda")
    try:
        # A slot of 40,000 positions takes 10 MB of KV: some of the 64 fit, all do not.
        config = EngineConfig(64, 40_000, Speculation.fixed(0))
        engine = general_engine(on_gpu.target, None, config)
        out = {c.request.id: c for c in engine.generate(requests(on_gpu))}
    finally:
        del hog
    assert tiny.tokens(out, len(on_gpu.prompts)) == on_gpu.expected
    assert 1 <= engine.stats.max_sequences < 64


def layers_over(devices, layers):
    """An explicit map: embedding (and the tied head) first, layers in even stretches."""
    last = devices[-1]
    return {
        "model.embed_tokens": devices[0],
        "lm_head": devices[0],
        "model.norm": last,
        "model.rotary_emb": devices[0],
        **{f"model.layers.{i}": devices[i * len(devices) // layers] for i in range(layers)},
    }


def embedded_requests(count=32):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, 90, (count,), generator=generator).tolist()
    return [
        Request(str(i), torch.randint(3, 512, (n,), generator=generator).tolist(), 48) for i, n in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def embedded_reference():
    model = AutoModelForCausalLM.from_pretrained(embedded("target"), dtype=torch.float32).cuda()
    return tiny.greedy_reference(model, [r.prompt_token_ids for r in embedded_requests()], 48)


@pytest.mark.parametrize("drafter_device", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("target_devices", [["cuda:0"], ["cuda:1"], ["cuda:0", "cuda:1"]])
def test_placements_over_two_gpus_give_the_same_tokens(target_devices, drafter_device, embedded_reference):
    """same, separate, and a target whose layers are split; a group need not start at cuda:0."""
    if torch.cuda.device_count() < 2 and {*target_devices, drafter_device} != {"cuda:0"}:
        pytest.skip("needs two GPUs")
    device_map = layers_over(target_devices, 16) if len(target_devices) > 1 else {"": target_devices[0]}
    target = load_causal_lm(str(embedded("target")), device_map=device_map, dtype="float32")
    drafter = load_causal_lm(str(embedded("drafter")), device_map={"": drafter_device}, dtype="float32")
    assert set(target.placement().values()) == set(target_devices)
    assert set(drafter.placement().values()) == {drafter_device}
    if len(target_devices) > 1:
        assert target.placement()["model.layers.7.mlp.up_proj.weight"] == "cuda:0"
        assert target.placement()["model.layers.8.mlp.up_proj.weight"] == "cuda:1"
    out, engine = tiny.decode(
        target, ModelDrafter(drafter), embedded_requests(), max_sequences=8, num_speculative_tokens=4, max_length=256
    )
    assert tiny.tokens(out, 32) == embedded_reference
    assert engine.stats.accepted > 0
