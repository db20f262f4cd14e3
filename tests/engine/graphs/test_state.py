"""Rows' lines on the device, and the modes that say which captures serve them."""

import pytest
import torch

from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.logits.option_lines import OptionLines
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.state import RowState
from specbatch.engine.host_copies import upload
from specbatch.engine.logits.options import NO_OPTIONS, LogitsOptions, TokenBias
from specbatch.engine.logits.row_options import RowOptions
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sequence import SequenceState

LANE = Lane(torch.device("cpu"))
GREEDY, DRAWN = SamplingParams(), SamplingParams(0.7)


def test_rows_that_never_draw_need_no_randomness():
    mode = Mode.of([GREEDY])
    assert (mode.greedy, mode.filters, mode.top_k) == (True, False, 0)
    assert Mode.of([]) == mode == Mode.of([SamplingParams(0.0, top_k=5, top_p=0.5)])  # no filter moves a greedy row


def test_all_temperatures_share_a_mode_with_and_without_greedy_rows():
    mode = Mode.of([DRAWN])
    assert (mode.greedy, mode.filters, mode.top_k) == (False, False, 0)
    assert Mode.of([GREEDY, SamplingParams(1.9)]) == mode


@pytest.mark.parametrize(
    ("top_ks", "rounded"), [([1], 16), ([16], 16), ([17], 32), ([3, 40], 64), ([64], 64), ([65], 128), ([20, 0], 0)]
)
def test_top_k_comes_in_powers_of_two_and_one_row_without_it_looks_at_everything(top_ks, rounded):
    mode = Mode.of([SamplingParams(1.0, top_k=k, top_p=0.9) for k in top_ks])
    assert (mode.greedy, mode.filters, mode.top_k) == (False, True, rounded)


@pytest.mark.parametrize(
    ("filters", "candidates", "sorts"),
    [
        ([(0, 0.9)], 0, False),
        ([(0, 0.9), (20, 0.9)], 32, False),
        ([(20, 1.0), (500, 1.0)], 32, False),
        ([(0, 0.9), (500, 0.9)], 0, True),
        ([(20, 0.9), (500, 0.9)], 32, True),
    ],
)
def test_only_a_large_top_k_with_a_top_p_needs_a_sort(filters, candidates, sorts):
    mode = Mode.of([SamplingParams(1.0, k, p) for k, p in filters])
    assert (mode.candidates, mode.sorts) == (candidates, sorts)


def test_top_p_alone_looks_at_everything():
    mode = Mode.of([GREEDY, DRAWN, SamplingParams(1.0, top_p=0.9)])
    assert (mode.filters, mode.top_k) == (True, 0)


def test_modes_are_few():
    kinds = [SamplingParams(t, k, p) for t in (0.0, 0.5, 1.0) for k in range(65) for p in (1.0, 0.9)]
    assert (
        len({Mode.of([kind, GREEDY]) for kind in kinds}) == 6
    )  # greedy, drawn, filtered with 16, 32, 64 or all tokens


def row(name="a", prompt=(5, 6, 7), done=(8,), sampling=GREEDY, new=10):
    return SequenceState(Request(name, list(prompt), new, sampling=sampling), list(done))


def test_a_joining_row_brings_all_that_a_round_reads():
    state = RowState(4, 32, 3, LANE)
    params = SamplingParams(0.5, 7, 0.25)
    rows = [row(), row("b", (9,), (), params, 4)]
    state.join([2, 0], rows)
    assert state.history[2, :4].tolist() == [5, 6, 7, 8]
    assert state.history[0, :1].tolist() == [9]
    assert not state.history[[1, 3, 4]].any()
    assert state.lengths.tolist() == [0, 0, 3, 0, 0]
    assert state.ends[[2, 0]].tolist() == [3 + 10 - 1, 1 + 4 - 1]
    assert state.prompt_lengths[[2, 0]].tolist() == [3, 1]
    sampling = state.sampling(torch.tensor([0, 2]), Mode.of([params]))
    assert sampling.temperature.tolist() == [0.5, 0.0]
    assert sampling.top_k.tolist() == [7, 0]
    assert sampling.top_p.tolist() == [0.25, 1.0]
    assert sampling.keys.tolist() == [rows[1].request.random_key, rows[0].request.random_key]


def test_the_longest_row_and_its_drafts_fit_in_the_history():
    state = RowState(1, 32, 3, LANE)  # positions as EngineConfig.max_positions: the row's and the drafts'
    state.join([0], [row(prompt=[1] * 32, done=())])
    assert state.history.shape[1] >= 32 + 3 + 1
    assert not state.history[1].any()


def test_places_without_a_row_are_filled_with_the_padding_slot():
    state = RowState(4, 32, 3, LANE)
    assert state.rows.tolist() == [4] * 4
    state.place([2, 0])
    assert state.rows.tolist() == [2, 0, 4, 4]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32])
def test_values_arrive_as_they_are(dtype):
    assert upload([3, 1, 2], dtype, LANE.device).tolist() == [3, 1, 2]


def test_a_slot_has_the_options_of_its_last_row_alone():
    """What is wide is written only for rows that have it."""
    many = LogitsOptions(
        tuple(TokenBias(token, -1.0 - token) for token in range(5)), ((1, 2), (3, 4, 5)), repetition_penalty=1.5
    )
    few = LogitsOptions((TokenBias(7, 2.0, until=3),), no_repeat_ngram_size=2)
    lines, cpu = OptionLines(4, LANE, 3), torch.device("cpu")
    held = dict.fromkeys(range(5), NO_OPTIONS)
    for slots, options in (
        ([2, 0], [many, many]),
        ([1, 2], [NO_OPTIONS, few]),
        ([0, 3], [few, many]),
        ([3, 0], [few, NO_OPTIONS]),
    ):
        lines.join(slots, [Request("", [0], 1, logits=one) for one in options])
        held |= dict(zip(slots, options, strict=True))
        expected = RowOptions.of([Request("", [0], 1, logits=one) for one in held.values()], cpu)
        found = lines.lines.lines(torch.arange(5))
        width, words, longest = expected.bias_tokens.shape[1], *expected.bad_words.shape[1:]
        for name in ("reals", "ngram", "entries"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
        active = expected.bias_until > 0
        assert torch.equal(found.bias_until[:, :width], expected.bias_until)
        assert not found.bias_until[:, width:].any()
        for name in ("bias_tokens", "bias_values"):
            assert torch.equal(getattr(found, name)[:, :width][active], getattr(expected, name)[active])
        assert torch.equal(found.bad_words[:, :words, -longest:], expected.bad_words)
        assert (found.bad_words[:, words:] == -1).all()
