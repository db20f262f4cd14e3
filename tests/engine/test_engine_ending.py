"""Where rows end: end-of-sequence tokens, stop strings and lengths, at every offset of a draft."""

import pytest

from specbatch.engine.request import Request
from tests.engine import tiny


@pytest.mark.slow
@pytest.mark.parametrize("offset", range(12))
@pytest.mark.parametrize("k", [0, 4])
def test_an_eos_token_at_any_draft_offset_is_the_rows_last(pair, offset, k):
    expected = pair.expected[5]
    first = expected.index(expected[offset])
    request = Request("0", pair.prompts[5], tiny.NEW, eos_token_ids=frozenset({expected[offset]}))
    out, _ = tiny.decode(pair.target, pair.twin, [request], num_speculative_tokens=k)
    assert list(out["0"].token_ids) == expected[: first + 1]
    assert out["0"].finish_reason == "stop"


@pytest.mark.parametrize("new_tokens", range(1, 12))
def test_max_new_tokens_cuts_at_any_draft_offset(pair, new_tokens):
    out, _ = tiny.decode(pair.target, pair.twin, [Request("0", pair.prompts[5], new_tokens)], num_speculative_tokens=4)
    assert list(out["0"].token_ids) == pair.expected[5][:new_tokens]
    assert out["0"].finish_reason == "length"


class StopAt:
    """Stops at the n-th token, as a stop string would; remembers what it was fed."""

    def __init__(self, n):
        self.n = n
        self.fed = []

    def __call__(self, new_token_ids):
        before = len(self.fed)
        self.fed.extend(new_token_ids)
        return self.n - before if len(self.fed) >= self.n else None


@pytest.mark.parametrize("n", range(1, 12))
def test_a_stop_string_completed_at_any_draft_offset_ends_the_row_there(pair, n):
    stop = StopAt(n)
    out, _ = tiny.decode(
        pair.target, pair.twin, [Request("0", pair.prompts[5], tiny.NEW, stop=stop)], num_speculative_tokens=4
    )
    assert list(out["0"].token_ids) == pair.expected[5][:n]
    assert out["0"].finish_reason == "stop"
    assert stop.fed[:n] == pair.expected[5][:n]


def test_the_last_token_allowed_being_eos_is_a_stop(pair):
    expected = pair.expected[5]
    n = next(i for i in range(3, tiny.NEW) if expected[i] not in expected[:i])
    request = Request("0", pair.prompts[5], n + 1, eos_token_ids=frozenset({expected[n]}))
    out, _ = tiny.decode(pair.target, pair.twin, [request], num_speculative_tokens=4)
    assert out["0"].finish_reason == "stop"
    assert len(out["0"].token_ids) == n + 1


def test_a_row_may_fill_max_length_to_the_last_token(pair):
    prompt = pair.prompts[5]
    out, _ = tiny.decode(
        pair.target,
        pair.twin,
        [Request("0", prompt, 10)],
        num_speculative_tokens=8,
        max_length=len(prompt) + 10,
    )
    assert list(out["0"].token_ids) == pair.expected[5][:10]


def test_rows_that_end_in_different_ways_share_a_batch(pair):
    rows = [
        Request("0", pair.prompts[0], tiny.NEW, eos_token_ids=frozenset({pair.expected[0][7]})),
        Request("1", pair.prompts[1], 3),
        Request("2", pair.prompts[2], tiny.NEW, stop=StopAt(11)),
        Request("3", pair.prompts[3], tiny.NEW),
    ]
    out, _ = tiny.decode(pair.target, pair.noisy, rows, num_speculative_tokens=4, max_sequences=4)
    assert [out[str(i)].finish_reason for i in range(4)] == ["stop", "length", "stop", "length"]
    for i in range(4):
        got = list(out[str(i)].token_ids)
        assert got == pair.expected[i][: len(got)]


@pytest.mark.parametrize(
    "request_",
    [Request("x", [], 5), Request("x", [1, 2], 0), Request("x", [1] * 100, 100)],
    ids=["empty prompt", "no new tokens", "longer than max_length"],
)
def test_requests_that_the_runner_must_refuse_are_not_decoded(pair, request_):
    with pytest.raises(AssertionError, match="row x"):
        tiny.decode(pair.target, None, [request_])
