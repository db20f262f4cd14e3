import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specbatch.engine.general.ngram import lookup


def brute_force(tokens, k, max_ngram, min_ngram):
    """Longest suffix of at most max_ngram tokens that occurred before, the latest time; what followed, periodically."""
    for n in range(min(max_ngram, len(tokens) - 1), min_ngram - 1, -1):
        suffix = tokens[-n:]
        for end in range(len(tokens) - 2, n - 2, -1):
            if tokens[end - n + 1 : end + 1] == suffix:
                following = tokens[end + 1 :]
                return [following[j % len(following)] for j in range(k)]
    return None


@pytest.mark.slow
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=30), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_lookup_finds_the_longest_then_latest_match(rows, k, min_ngram, more):
    width = max(map(len, rows)) + 3
    filler = [[*row, *[row[0]] * (width - len(row))] for row in rows]  # filler that would match must not be looked at
    last = torch.tensor([len(row) - 1 for row in rows])
    drafts, drafted, _ = lookup(torch.tensor(filler), last, k, max_ngram=min_ngram + more, min_ngram=min_ngram)
    for row, draft, count in zip(rows, drafts.tolist(), drafted.tolist(), strict=True):
        expected = brute_force(row, k, min_ngram + more, min_ngram)
        assert count == (0 if expected is None else k)
        if expected is not None:
            assert draft == expected


def test_a_period_is_continued_past_the_last_token():
    drafts, drafted, _ = lookup(torch.tensor([[7, 8, 7, 8, 0]]), torch.tensor([3]), 5, max_ngram=3, min_ngram=1)
    assert drafted.tolist() == [5]
    assert drafts.tolist() == [[7, 8, 7, 8, 7]]
