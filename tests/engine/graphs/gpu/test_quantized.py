"""A quantized drafter on a GPU, by compiled kernels and recorded rounds: python -m pytest -m gpu tests/engine/graphs/gpu/test_quantized.py"""

import pytest
import torch

from tests.engine.graphs import fast
from tests.engine.graphs.gpu.embedded import embedded_prompts, judged, load_pair

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("batch", [1, 16, 80, 300])
@pytest.mark.parametrize("quantization", ["int8", "fp8"])  # the embedded drafter is of a width that int4 does not take
def test_every_token_is_the_targets_own_and_drafts_stand_as_often(quantization, batch):
    """Batches whose draft steps take each of the kernels: in registers, by tensor cores, by several programs for the tokens, made wide."""
    rates = []
    for fewer in (None, quantization):
        pair = load_pair("bfloat16", quantization=fewer)
        rows = fast.requests(embedded_prompts(min(batch, 64)) * -(-batch // 64), 24)
        out, engine = fast.decode(
            pair.target, pair.drafter, rows[:batch], max_sequences=batch, num_speculative_tokens=3, max_length=256
        )
        assert judged(out, torch.bfloat16)["unexplained"] == 0
        rates.append(engine.stats.acceptance_rate)
    assert rates[1] > rates[0] - 0.06
