"""KV in FP8 on a GPU, by compiled kernels and recorded rounds: python -m pytest -m gpu tests/engine/graphs/gpu/test_fp8_kv.py"""

import pytest
import torch

from specbatch.engine.fp8.w8a8 import FP8
from tests.engine.graphs import fast
from tests.engine.graphs.gpu.embedded import embedded_prompts, judged, load_pair

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(("batch", "k"), [(1, 0), (16, 3), (80, 0), (80, 3)])
def test_every_token_is_that_of_the_target_with_kv_in_fp8_and_drafts_stand_as_often(batch, k):
    rates = []
    for kept in (False, True):
        pair = load_pair("bfloat16")
        pair.target.fp8_kv = pair.drafter.model.fp8_kv = kept
        rows = fast.requests(embedded_prompts(min(batch, 64)) * -(-batch // 64), 24)
        out, engine = fast.decode(
            pair.target,
            pair.drafter if k else None,
            rows[:batch],
            max_sequences=batch,
            num_speculative_tokens=k,
            max_length=256,
        )
        assert judged(out, torch.bfloat16, fp8_kv=kept)["unexplained"] == 0
        assert (engine.runner.pair.target.stages[0].kv.values[0].dtype == FP8) is kept
        rates.append(engine.stats.acceptance_rate)
    assert rates[1] > rates[0] - 0.06
