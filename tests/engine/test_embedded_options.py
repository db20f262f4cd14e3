"""Rows with logits processors on a trained pair: greedy output is that of transformers' generate with the same options."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from specbatch.embedded import path as embedded
from specbatch.engine.logits.options import LogitsOptions, TokenBias
from specbatch.engine.request import Request
from tests.engine import tiny
from tests.engine.graphs import fast
from tests.engine.test_embedded_exact import models, requests  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow

NEW, ROWS = 24, 6
SUPPRESSED = list(range(100, 500, 7))
KINDS = {
    "repetition": (LogitsOptions(repetition_penalty=1.3), {"repetition_penalty": 1.3}),
    "n-grams": (LogitsOptions(no_repeat_ngram_size=2), {"no_repeat_ngram_size": 2}),
    "suppressed": (
        LogitsOptions(bias=tuple(TokenBias(token, -math.inf) for token in SUPPRESSED)),
        {"suppress_tokens": SUPPRESSED},
    ),
    "biased": (
        LogitsOptions(bias=(TokenBias(20, 4.0), TokenBias(400, -3.0))),
        {"sequence_bias": [[[20], 4.0], [[400], -3.0]]},
    ),
}


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(embedded("target"), dtype=torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_is_that_of_generate(model, models, requests, kind):  # noqa: F811 - fixtures
    options, settings = KINDS[kind]
    rows = [
        Request(r.id, r.prompt_token_ids, NEW, eos_token_ids=r.eos_token_ids, logits=options) for r in requests[:ROWS]
    ]
    expected = []
    for row in rows:
        ids = torch.tensor([row.prompt_token_ids])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False, **settings)
        expected.append(out[0, ids.shape[1] :].tolist())
    for decode in (tiny.decode, fast.decode):
        out, made = decode(models[0], models[1], rows, num_speculative_tokens=3, max_sequences=4, max_length=256)
        assert tiny.tokens(out, ROWS) == expected
        assert made.stats.accepted > 0
