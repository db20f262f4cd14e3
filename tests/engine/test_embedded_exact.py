"""The bar itself, on a trained pair: greedy output is the target's own for every batch and k, mixed prompt lengths."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from specbatch.embedded import path as embedded
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.request import Request
from tests.engine import tiny

pytestmark = pytest.mark.slow

PROMPTS = Path(__file__).resolve().parents[2] / "job/prompts/quickstart.jsonl"
ROWS = 16
NEW = 32


@pytest.fixture(scope="module")
def models():
    target, drafter = (
        load_causal_lm(str(embedded(name)), device_map={"": "cpu"}, dtype="float32") for name in ("target", "drafter")
    )
    return target, ModelDrafter(drafter)


@pytest.fixture(scope="module")
def requests():
    tokenizer = AutoTokenizer.from_pretrained(embedded("target"))
    eos = frozenset({tokenizer.eos_token_id})
    prompts = [json.loads(line)["prompt"] for line in PROMPTS.read_text().splitlines()[:ROWS]]
    ids = [
        tokenizer.apply_chat_template([{"role": "user", "content": p}], add_generation_prompt=True, return_dict=False)
        for p in prompts
    ]
    return [Request(str(i), row, NEW, eos_token_ids=eos) for i, row in enumerate(ids)]


@pytest.fixture(scope="module")
def expected(requests):
    """transformers' generate, row by row."""
    model = AutoModelForCausalLM.from_pretrained(embedded("target"), dtype=torch.float32)
    outputs = []
    for request in requests:
        ids = torch.tensor([request.prompt_token_ids])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False)
        outputs.append(out[0, ids.shape[1] :].tolist())
    return outputs


@pytest.mark.parametrize("k", range(9))
@pytest.mark.parametrize("batch", [1, 6, ROWS])
def test_every_row_is_the_targets_own(models, requests, expected, batch, k):
    target, drafter = models
    rows = requests[:4] if batch == 1 else requests
    out, engine = tiny.decode(target, drafter, rows, max_sequences=batch, num_speculative_tokens=k, max_length=256)
    assert tiny.tokens(out, len(rows)) == expected[: len(rows)]
    if k == 4 and batch == ROWS:
        assert 0.6 < engine.stats.acceptance_rate < 0.9
