"""A drafter that sees the first tokens and the last ones of a row: no token changes, and its KV is that of the row without its middle."""

import copy

import pytest
import torch

from specbatch.engine.graphs import pair as pairs
from specbatch.engine.graphs.drafters import windowed
from specbatch.engine.graphs.drafters.windowed import SINKS, WindowedDrafter, room
from specbatch.engine.graphs.kv.pool import pages_for
from tests.engine import tiny
from tests.engine.graphs import fast

WINDOW, NEW = 16, 40


def long_prompts(count=4, seed=4):
    """Of which most are longer than the room of the window."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [3, room(WINDOW), room(WINDOW) + 1, 150][:count]
    return [torch.randint(0, tiny.VOCAB, (n,), generator=generator).tolist() for n in lengths]


def decoded(pair, drafter, rows, controller=None, **sizes):
    sizes = {"max_length": 256, "max_sequences": 3, "num_speculative_tokens": 3, "drafter_window": WINDOW} | sizes
    return fast.decode(pair.target, drafter, rows, controller, **sizes)


@pytest.fixture(scope="module")
def whole(pair):
    """Tokens without a window, of rows that grow far beyond it."""
    out, _ = decoded(pair, pair.noisy, fast.requests(long_prompts(), NEW), drafter_window=None)
    return tiny.tokens(out, 4)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"max_sequences": 2}, {"num_speculative_tokens": None}, {"drafter_apart": True}], ids=str)  # fmt: skip
def test_no_token_changes(pair, whole, sizes):
    out, engine = decoded(pair, pair.noisy, fast.requests(long_prompts(), NEW), **sizes)
    assert type(engine.runner.pair.drafter) is WindowedDrafter
    assert tiny.tokens(out, 4) == whole


@pytest.mark.slow
def test_no_token_changes_where_k_goes_up_and_down(pair, whole):
    out, engine = decoded(pair, pair.noisy, fast.requests(long_prompts(), NEW), fast.Scripted((0, 3, 0, 0, 8, 1)), num_speculative_tokens=8)  # fmt: skip
    assert tiny.tokens(out, 4) == whole
    assert engine.stats.accepted > 0


def test_rows_that_fit_the_room_are_drafted_as_without_a_window(pair):
    rows = [prompt[:12] for prompt in pair.prompts[:4]]
    windows = decoded(pair, pair.twin, fast.requests(rows, 12), max_length=96, max_sequences=4)
    assert type(windows[1].runner.pair.drafter) is WindowedDrafter
    assert windows[1].stats.acceptance_rate == 1.0
    assert windows[1].stats.rounds == 12 / 4


def test_a_window_that_no_row_fills_is_none(pair):
    made = fast.engine(pair.target, pair.twin, max_length=64, drafter_window=64)
    assert type(made.runner.pair.drafter) is not WindowedDrafter


def test_the_drafters_kv_is_that_of_the_room(pair):
    made = fast.engine(pair.target, pair.twin, max_length=448, drafter_window=WINDOW, max_sequences=3, num_speculative_tokens=2)  # fmt: skip
    target, drafter = made.runner.pair.pools
    assert drafter.pages == 3 * pages_for(windowed.shown_positions(made.config)) < target.pages
    assert pairs.WindowPool is type(drafter)


@pytest.mark.slow
def test_what_is_drafted_is_what_the_model_says_of_the_row_without_its_middle(pair, monkeypatch):
    """One row, one draft a round: beside a fresh forward over the sinks and what follows the middle."""
    drafted = []
    keep = windowed.WindowedDrafter._settle

    def settle(self, logits, at, mode, *, anew):
        history, length, hidden = self.state.history[0], int(self.state.lengths[0]), int(self.hidden[0])
        shown = torch.cat([history[:SINKS], history[SINKS + hidden : length + 1]])
        expected = alone(input_ids=shown[None], use_cache=False).logits[0, -1]
        drafted.append((hidden, float((logits[0] - expected).abs().max())))
        keep(self, logits, at, mode, anew=anew)

    alone = copy.deepcopy(pair.twin.model.model)  # the pair is the session's
    alone.set_attn_implementation("sdpa")
    monkeypatch.setattr(windowed.WindowedDrafter, "_settle", settle)
    row = long_prompts()[2]
    made = fast.engine(pair.target, pair.twin, max_length=256, drafter_window=WINDOW, max_sequences=1, num_speculative_tokens=1)  # fmt: skip
    made.warmup()
    drafted.clear()
    fast.finish(made, fast.requests([row], NEW))
    assert len({hidden for hidden, _ in drafted}) > 1
    assert max(difference for _, difference in drafted[2:]) < 1e-4
