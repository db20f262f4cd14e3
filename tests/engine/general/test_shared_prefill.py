"""What rows begin with alike is filled once in the general engine, and changes no token."""

import pytest
import torch

from specbatch.engine.general import shared_prefill
from specbatch.engine.prefix import PAGE
from tests.engine import tiny
from tests.engine.graphs import fast

NEW = 6
DOCUMENT, OTHER = (
    torch.randint(0, tiny.VOCAB, (2 * PAGE + 22,), generator=torch.Generator().manual_seed(seed)).tolist()
    for seed in (1, 2)
)
PROMPTS = [
    *([*DOCUMENT, *[each] * (3 + each)] for each in range(5)),
    [5, 6, 7],
    *([*DOCUMENT[:PAGE], *OTHER[:80], each] for each in range(3)),  # of whom the second finds more in the first of them
    *([*OTHER, each] for each in range(2)),
    DOCUMENT,
]


def decoded(pair, monkeypatch=None, **sizes):
    sizes = {"max_length": 256, "max_sequences": 5, "prefill_chunk": 128} | sizes
    return tiny.decode(pair.target, pair.twin, fast.requests(PROMPTS, NEW), **sizes)


@pytest.fixture(scope="module")
def alone(pair):
    out, engine = decoded(pair, num_speculative_tokens=2, prefix_caching=False)
    assert engine.stats.prefill_tokens_saved == 0
    return tiny.tokens(out, len(PROMPTS))


@pytest.mark.slow
@pytest.mark.parametrize(("k", "at_once"), [(0, 5), (2, 5), (2, 12), (2, 1), (None, 4)])
def test_rows_have_the_tokens_and_the_acceptance_of_rows_that_share_nothing(pair, alone, k, at_once):
    out, engine = decoded(pair, num_speculative_tokens=k, max_sequences=at_once)
    assert tiny.tokens(out, len(PROMPTS)) == alone
    assert engine.stats.acceptance_rate in ((0.0,) if k == 0 else (1.0,) if k else (0.0, 1.0))
    saved = engine.stats.prefill_tokens_saved
    if at_once == 12:  # all at once
        assert saved == PAGE * (4 * 2 + 1 + 2 * 2 + 2 + 2)
    assert (saved > 0) == (at_once > 1)


@pytest.mark.slow
def test_what_saves_less_than_a_forward_is_filled_as_before(pair, alone, monkeypatch):
    monkeypatch.setattr(shared_prefill, "_WORTH", {"cpu": 10_000})
    out, engine = decoded(pair, num_speculative_tokens=2)
    assert tiny.tokens(out, len(PROMPTS)) == alone
    assert engine.stats.prefill_tokens_saved == 0
