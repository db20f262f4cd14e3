"""Checkpoints of 4 bits on a GPU, by compiled kernels and recorded rounds: python -m pytest -m gpu tests/engine/graphs/gpu/test_packed.py"""

import copy

import pytest

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.loading.load import load_causal_lm
from tests.engine import tiny
from tests.engine.graphs import fast
from tests.engine.packed import checkpoints
from tests.engine.packed.test_checkpoints import model

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("kind", ["awq", "gptq sym"])
def test_texts_are_those_of_the_model_in_floating_point_however_many_rows_there_are(tmp_path, kind):
    """Rounds of 1 to 400 tokens: in registers, by tensor cores, by several programs for the tokens, made wide."""
    stands_for, rows = checkpoints.save(model(), tmp_path, kind), tiny.prompts(80)
    expected = tiny.greedy_reference(copy.deepcopy(stands_for).cuda(), rows, 16)
    for batch, k in ((1, 0), (1, 3), (16, 2), (80, 0), (80, 4)):
        target = load_causal_lm(str(tmp_path), device_map={"": "cuda:0"}, dtype="float32")
        drafter = ModelDrafter(CausalLM(tiny.noisy(stands_for).cuda())) if k else None
        requests = fast.requests(rows[:batch], 16)
        out, _ = fast.decode(target, drafter, requests, max_sequences=batch, num_speculative_tokens=k)
        assert tiny.tokens(out, batch) == expected[:batch], (batch, k)
