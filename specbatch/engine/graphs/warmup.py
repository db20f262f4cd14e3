"""Before the first row: every step that the run can need is compiled, captured and timed, on the padding slot: dummy runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from specbatch.engine.graphs.pair import CapturedPair
from specbatch.engine.graphs.precompile import precompile
from specbatch.engine.graphs.state import Mode
from specbatch.engine.round_costs import RoundCosts
from specbatch.engine.timing import mark, seconds_between

_CONTEXT = 128  # tokens that a timed row has
_REPEATS = 3


@torch.inference_mode()
def warm_up(pair: CapturedPair, say: Callable[[str], None]) -> RoundCosts:
    """Captures all steps, largest first, so that what memory there is shows at once; times each.

    Args:
        pair: without rows.
        say: told how far it is.
    """
    precompile(pair, say)
    _capture_prefills(pair, say)
    pair.dummy_join()
    with _timed_rows(pair) as mode:
        table: dict[tuple[int, int], float] = {}
        sizes = sorted(pair.buckets, reverse=True)
        for done, rows in enumerate(sizes):
            say(f"capturing rounds: {done} of {len(sizes)} batch sizes")
            for k in pair.ks(rows):
                table[rows, k] = _seconds(pair, partial(_round, pair, rows, k, mode))
    catch_up = _catch_up_seconds_per_token(pair) if pair.drafter.prefills else 0.0
    return RoundCosts(table, catch_up, pair.buckets)


def _round(pair: CapturedPair, rows: int, k: int, mode: Mode) -> None:
    pair.draft(rows, k, mode)
    pair.verify(rows, k, mode)


def _seconds(pair: CapturedPair, step: Callable[[], None]) -> float:
    """The least time of a step; the first two runs compile and capture it."""
    step()
    step()
    least = float("inf")
    for _ in range(_REPEATS):
        start = mark(pair.device)
        step()
        end = mark(pair.device)
        if pair.device.type == "cuda":
            torch.cuda.synchronize(pair.device)
        least = min(least, seconds_between(start, end))
    return least


@contextmanager
def _timed_rows(pair: CapturedPair) -> Iterator[Mode]:
    """Gives the padding slot a context, for as long as it stands in for rows. It stays where it is: it has ended."""
    state = pair.state
    context = min(_CONTEXT, pair.config.max_length - 1)
    state.lengths[-1] = state.ends[-1] = context
    pair.place([])
    try:
        yield Mode.of([pair.config.sampling])
    finally:
        state.lengths[-1] = state.ends[-1] = 0


def _capture_prefills(pair: CapturedPair, say: Callable[[str], None]) -> None:
    sizes = pair.prefill_sizes()
    for done, size in enumerate(reversed(sizes)):
        say(f"capturing prefill: {done} of {len(sizes)} sizes")
        for _ in range(2):
            pair.dummy_prefill(size)


def _catch_up_seconds_per_token(pair: CapturedPair) -> float:
    """Of the drafter, for one token of a full forward."""
    size = pair.prefill_sizes()[-1]
    return _seconds(pair, lambda: pair.dummy_prefill(size, target=False)) / size
