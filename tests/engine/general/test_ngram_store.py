"""Drafts from finished rows: what is found there really followed the row's last tokens, and no text hangs on it."""

import pytest
import torch

from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.general.ngram_store import SIZES, NGramStore
from specbatch.engine.request import Request, SamplingParams
from tests.engine import tiny
from tests.engine.graphs import fast

CPU = torch.device("cpu")


def look_up(store, rows, k):
    """(drafts, length of the run) of each row."""
    width = max(SIZES[0], *map(len, rows))
    history = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    tokens, counts, run = store.look_up(history, torch.tensor([len(row) - 1 for row in rows]), k)
    drafts = [row[:count] for row, count in zip(tokens.tolist(), counts.tolist(), strict=True)]
    return list(zip(drafts, run.tolist(), strict=True))


def random_rows(count, seed, vocab=9):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 40, (count,), generator=generator).tolist()
    return [torch.randint(0, vocab, (length,), generator=generator).tolist() for length in lengths]


def follows(rows, run, drafts):
    """Whether any row has these tokens one after the other, the drafts to its end if they are few."""
    whole = [*run, *drafts]
    return any(row[at : at + len(whole)] == whole for row in rows for at in range(len(row)))


def test_the_longest_run_is_found_and_what_followed_it_up_to_the_rows_end():
    store = NGramStore(CPU, 1 << 12)
    store.add([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [7, 8, 20, 21]])
    assert look_up(store, [[7, 8], [5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8], [8, 7], [8], [9, 10]], 4) == [
        ([20, 21], 2),
        ([9, 10], 4),
        ([9, 10], 8),
        ([], 0),
        ([], 0),
        ([], 2),
    ]


@pytest.mark.parametrize("capacity", [1 << 8, 1 << 14])
def test_every_draft_is_what_followed_in_a_finished_row_also_once_the_oldest_are_gone(capacity):
    rows, store = random_rows(200, seed=0), NGramStore(CPU, capacity)
    for first in range(0, 200, 20):
        store.add(rows[first : first + 20])
    found = 0
    for row, (drafts, run) in zip(asked := random_rows(60, seed=1), look_up(store, asked, 5), strict=True):
        found += run > 0
        assert not run or follows(rows, row[-run:], drafts)
        if capacity > 1 << 13 and not run:  # all are there still, and nothing is missed
            assert len(row) < 2 or not follows([each[:-1] for each in rows], row[-2:], [])
    assert found > (40 if capacity > 1 << 13 else 10)


@pytest.mark.slow
@pytest.mark.parametrize("decode", [tiny.decode, fast.decode], ids=["general", "graphs"])
@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(0.8)], ids=["greedy", "drawn"])
def test_rows_like_finished_ones_take_fewer_rounds_and_their_text_stays(pair, decode, sampling):
    """The second half asks what the first half asked, by the same random numbers."""
    first = [Request(str(i), pair.prompts[i], tiny.NEW, sampling=sampling) for i in range(2, 6)]
    alone, _ = decode(pair.target, None, first, max_sequences=4)
    drafter = NGramDrafter()
    sizes = {"max_sequences": 4, "num_speculative_tokens": 4}
    out, _ = decode(pair.target, drafter, first, **sizes)
    again, _ = decode(pair.target, drafter, first, **sizes)
    for row in first:
        assert out[row.id].token_ids == again[row.id].token_ids == alone[row.id].token_ids
        assert again[row.id].rounds < 0.6 * out[row.id].rounds


@pytest.mark.slow
@pytest.mark.parametrize("decode", [tiny.decode, fast.decode], ids=["general", "graphs"])
def test_by_rejection_no_drawn_text_depends_on_what_has_finished(pair, decode):
    rows = [Request(str(i), pair.prompts[i], 12, sampling=SamplingParams(1.0)) for i in range(2, 6)]
    sizes = {"max_sequences": 4, "num_speculative_tokens": 3, "acceptance_rule": "rejection"}
    fresh, _ = decode(pair.target, NGramDrafter(), rows, **sizes)
    drafter = NGramDrafter()
    drafter.store(CPU).add(pair.expected)
    drafter.store(CPU).add([[*row.request.prompt_token_ids[-8:], *row.token_ids] for row in fresh.values()])
    later, _ = decode(pair.target, drafter, rows, **sizes)
    assert [later[row.id].token_ids for row in rows] == [fresh[row.id].token_ids for row in rows]
    assert [later[row.id].rounds for row in rows] == [fresh[row.id].rounds for row in rows]
