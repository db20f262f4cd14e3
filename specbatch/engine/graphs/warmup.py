"""Before the first row: every step that the run can need is compiled, recorded and timed, on the padding slot: dummy runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from specbatch.engine.controller import AdaptiveK, Controller, FixedK
from specbatch.engine.graphs.flight import mark, seconds_between
from specbatch.engine.graphs.machine import Machine
from specbatch.engine.graphs.precompile import precompile
from specbatch.engine.graphs.state import Mode
from specbatch.engine.round_costs import RoundCosts

_CONTEXT = 128  # tokens that a timed row has
_REPEATS = 3


@torch.inference_mode()
def warm_up(machine: Machine, say: Callable[[str], None]) -> Controller:
    """Records all steps, largest first, so that what memory there is shows at once; times them where k is to be chosen.

    Args:
        machine: without rows.
        say: told how far it is.
    """
    config = machine.config
    drafts = machine.round.drafter is not None and config.max_k > 0
    precompile(machine, say)
    _record_prefills(machine, say)
    machine.dummy_join()
    with _timed_rows(machine) as mode:
        table: dict[tuple[int, int], float] = {}
        sizes = sorted(machine.buckets, reverse=True)
        for done, rows in enumerate(sizes):
            say(f"recording rounds: {done} of {len(sizes)} batch sizes")
            for k in machine.ks(rows):
                table[rows, k] = _seconds(machine, partial(_round, machine, rows, k, mode))
    catch_up = _catch_up_seconds_per_token(machine) if machine.drafts_with_model else 0.0
    machine.warm = True
    costs = RoundCosts(table, catch_up, machine.buckets)
    if not drafts:
        return FixedK(0)
    if config.num_speculative_tokens is None:
        return AdaptiveK(costs, config.max_k, steady=True)
    return FixedK(config.max_k, costs if config.price_plain_rounds else None)


def _round(machine: Machine, rows: int, k: int, mode: Mode) -> None:
    machine.draft(rows, k, mode)
    machine.verify(rows, k, mode)


def _seconds(machine: Machine, step: Callable[[], None]) -> float:
    """The least time of a step; the first two runs compile and record it."""
    step()
    step()
    least = float("inf")
    for _ in range(_REPEATS):
        start = mark(machine.device)
        step()
        end = mark(machine.device)
        if machine.device.type == "cuda":
            torch.cuda.synchronize(machine.device)
        least = min(least, seconds_between(start, end))
    return least


@contextmanager
def _timed_rows(machine: Machine) -> Iterator[Mode]:
    """Gives the padding slot a context, for as long as it stands in for rows. It stays where it is: it has ended."""
    state = machine.state
    context = min(_CONTEXT, machine.config.max_length - 1)
    state.lengths[-1] = state.ends[-1] = context
    machine.seat([])
    try:
        yield Mode.of([machine.config.sampling])
    finally:
        state.lengths[-1] = state.ends[-1] = 0


def _record_prefills(machine: Machine, say: Callable[[str], None]) -> None:
    sizes = machine.prefill_sizes()
    for done, size in enumerate(reversed(sizes)):
        say(f"recording prefill: {done} of {len(sizes)} sizes")
        for _ in range(2):
            machine.dummy_prefill(size)


def _catch_up_seconds_per_token(machine: Machine) -> float:
    """Of the drafter, for one token of a full forward."""
    size = machine.prefill_sizes()[-1]
    return _seconds(machine, lambda: machine.dummy_prefill(size, target=False)) / size
