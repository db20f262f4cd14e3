"""The small kernels of a round against their reference."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.kernels import bookkeeping
from specbatch.engine.graphs.reference import TorchOps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def integers(low, high, *shape, seed=0):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize(("n", "back", "drafted"), [(1, 0, None), (2, 1, None), (1, 0, 3), (7, 0, None)])
def test_the_next_tokens_of_each_row_are_found(n, back, drafted):
    history, lengths, rows = (
        integers(0, 99, 9, 40),
        integers(0, 20, 9, seed=1),
        torch.tensor([4, 0, 7, 8, 8]).to(DEVICE),
    )
    lengths[7] = 0  # a prompt of one token: the one before it is at -1
    drafted = None if drafted is None else torch.tensor([drafted]).to(DEVICE)
    expected = TorchOps().next_tokens(history, lengths, rows, n, back, drafted)
    actual = bookkeeping.next_tokens(history, lengths, rows, n, back, drafted)
    assert [part.tolist() for part in actual] == [part.tolist() for part in expected]


@pytest.mark.parametrize("anew", [True, False])
@pytest.mark.parametrize("n", [1, 2])
def test_drafts_stand_behind_the_rows_last_tokens_and_are_counted(n, anew):
    slots, positions, drafts = torch.tensor([2, 0, 3]).to(DEVICE), integers(0, 30, 3 * n), integers(0, 99, 3, seed=2)
    histories = [integers(0, 99, 4, 40, seed=3) for _ in range(2)]
    counts = [torch.tensor([5]).to(DEVICE) for _ in range(2)]
    for ops, history, drafted in zip((TorchOps(), bookkeeping), histories, counts, strict=True):
        ops.keep_drafts(history, slots, positions, drafts, drafted, anew=anew)
    assert histories[0].tolist() == histories[1].tolist()
    assert counts[0].tolist() == counts[1].tolist() == [1 if anew else 6]


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("k", [0, 1, 4, 6])
def test_rows_move_on_by_what_stands_up_to_their_ends(k, counted):
    """Every number of drafts that stand, rows near and at their ends, and a row whose logits are not finite."""
    rows = 2 * (k + 1)
    tokens = integers(0, 99, rows, k + 1)
    finite = torch.ones(rows, k + 1, dtype=torch.bool, device=DEVICE)
    finite[1, k] = False
    num_drafted = integers(0, k + 2, rows, seed=5) if counted else None
    slots = torch.arange(rows, device=DEVICE).flip(0)
    lengths = integers(3, 9, rows + 1, seed=6)
    ends = lengths + integers(0, k + 3, rows + 1, seed=7)
    history = integers(0, 99, rows + 1, 30, seed=8)
    for row in range(rows):
        at = int(lengths[slots[row]]) + 1
        stand = row % (k + 1)
        history[slots[row], at : at + k] = tokens[row, :k]
        if stand < k:
            history[slots[row], at + stand] = 100  # no token of the target's
    found = []
    for ops in (TorchOps(), bookkeeping):
        states = history.clone(), lengths.clone(), ends, slots, tokens, finite, num_drafted
        outcome = torch.zeros(rows, k + 6, dtype=torch.int64, device=DEVICE)
        ops.commit_coupled(*states, outcome)
        found.append((states[0].tolist(), states[1].tolist(), outcome.tolist()))
    assert found[0] == found[1]
    if not counted:
        assert [line[0] for line in found[1][2]] == [row % (k + 1) for row in range(rows)]


@pytest.mark.parametrize("width", [64, 3000])
def test_embeddings_are_gathered(width):
    weight, tokens = torch.randn(50, width, device=DEVICE), integers(0, 50, 7)
    assert torch.equal(bookkeeping.embed(tokens, weight), weight[tokens])


def test_a_token_without_an_embedding_takes_the_last_one():
    weight = torch.randn(50, 64, device=DEVICE)
    tokens = torch.tensor([49, 50, 60], device=DEVICE)
    for found in (bookkeeping.embed(tokens, weight), TorchOps().embed(tokens, weight)):
        assert torch.equal(found, weight[[49, 49, 49]])
