"""Log probabilities without a copy of the logits against their reference in PyTorch."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.kernels import logprobs as kernels
from specbatch.engine.graphs.triton_ops import TritonOps
from specbatch.engine.logits.logprobs import MOST, Logprobs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# NumPy's, of the interpreter: it wraps and divides as a GPU does, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value|All-NaN):RuntimeWarning")


def example(vocab, dtype):
    generator = torch.Generator().manual_seed(vocab)
    logits = (torch.randn(2, 2, vocab + 1, generator=generator) * 4).to(DEVICE, dtype)[..., :vocab]
    logits[0, 0, 3] = -torch.inf
    return logits, torch.randint(0, vocab, (2, 2), generator=generator).to(DEVICE)


@pytest.mark.parametrize(
    ("vocab", "dtype"), [(MOST, torch.float32), (5000, torch.float32), (300, torch.bfloat16), (7, torch.float16)]
)
def test_they_are_those_of_the_reference(vocab, dtype):
    logits, tokens = example(vocab, dtype)
    ours, theirs = TritonOps().logprobs(logits, tokens), Logprobs.of(logits, tokens)
    torch.testing.assert_close(ours.values, theirs.values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.gather(-1, ours.tokens), logits.gather(-1, theirs.tokens))  # of equals any


def test_a_sum_over_fewer_tokens_fails_the_same_test(monkeypatch):
    logits, tokens = example(5000, torch.float32)
    monkeypatch.setattr(kernels.triton, "cdiv", lambda vocab, tile: 1)
    values, _ = kernels.logprobs(logits.reshape(4, -1), tokens.reshape(-1), MOST)
    assert not torch.allclose(values[:, 0], Logprobs.of(logits, tokens).values[..., 0].reshape(-1), atol=1e-3)
