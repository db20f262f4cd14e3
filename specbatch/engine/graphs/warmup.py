"""Before the first row: every step that the run can need is compiled, captured and timed, on the padding slot: dummy runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from specbatch.engine.graphs.dummy_runs import dummy_join, dummy_prefill
from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.graphs.kv.pool import page_bytes
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.pair import CapturedPair
from specbatch.engine.graphs.precompile import precompile
from specbatch.engine.graphs.rounds import Spans
from specbatch.engine.pipeline import PipelineCosts, RoundTimes, assumed_tokens, best_groups, speeds_by_groups
from specbatch.engine.speculation.round_costs import RoundCosts
from specbatch.engine.timing import seconds_between

_CONTEXT = 128  # tokens that a timed row has
_FIRST, _REPEATS = 2, 3  # runs of a step: those that compile and capture it, and those that are timed
_COPIED = 256 << 20  # bytes, by which the memory's speed is told


@torch.inference_mode()
def warm_up(
    pair: CapturedPair, say: Callable[[str], None]
) -> tuple[RoundCosts, int, dict[tuple[int, int], RoundTimes]]:
    """Captures all steps, largest first, so that what memory there is shows at once; times each.

    Args:
        pair: without rows.
        say: told how far it is.

    Returns:
        what rounds cost, how many groups of rows pay, and what both follow from: by rows and k, how long each lane is busy.
    """
    precompile(pair, say)
    _capture_prefills(pair, say)
    dummy_join(pair)
    if _route(pair):
        for state in {pair.front, pair.state, *pair.drafting_states}:
            state.spread(pair.target.vocab_size)
    with _timed_rows(pair) as mode:
        times: dict[tuple[int, int], RoundTimes] = {}
        sizes = sorted(pair.buckets, reverse=True)
        for done, rows in enumerate(sizes):
            say(f"capturing rounds: {done} of {len(sizes)} batch sizes")
            for k in pair.ks(rows):
                times[rows, k] = _times(pair, rows, k, mode)
        for group in range(len(pair.drafting_states)):
            pair.drop_outcomes(group)
    catch_up = _catch_up_seconds_per_token(pair) if pair.drafter.prefills else 0.0
    if len(pair.lanes) == 1:
        table = {at: each.interval(1) for at, each in times.items()}
        costs_of_one = RoundCosts(table, catch_up, pair.buckets)
        if pair.drafter.prefills:
            _price_context(pair, costs_of_one)
        return costs_of_one, pair.config.micro_batches or 1, times
    fixed, adaptive = pair.config.micro_batches, pair.config.speculation.is_adaptive
    costs = PipelineCosts(
        times, pair.buckets, fixed or 1, pair.most_groups, adaptive=adaptive, catch_up_seconds_per_token=catch_up
    )
    costs.regroup(fixed or best_groups(speeds_by_groups(costs, pair.slots, assumed_tokens)))
    say(f"groups of rows in flight: {costs.groups}")
    return costs, costs.groups, times


def _times(pair: CapturedPair, rows: int, k: int, mode: Mode) -> RoundTimes:
    """The least time of a round."""
    if len(pair.lanes) == 1:
        return RoundTimes((), (_seconds(pair.state.lane, partial(_round, pair, rows, k, mode)),), k)
    drafters = [prefill.decoder.lanes for prefill in pair.drafter.prefills]
    least: dict[Lane, float] = {}
    for group in range(len(drafters) if k and drafters else 1):  # a group for each drafter
        for repeat in range(_FIRST + _REPEATS):
            found = _time_once(pair, rows, k, mode, group)
            if repeat >= _FIRST:
                least |= {lane: min(least.get(lane, seconds), seconds) for lane, seconds in found.items()}
    of_each = [[least.get(lane, 0.0) for lane in lanes] for lanes in drafters]
    tried = pair.config.stages_per_device > 1 or pair.config.drafter_apart  # on one device, as if each part had its own
    return RoundTimes(
        tuple(max(stage) for stage in zip(*of_each, strict=True)),
        tuple(least.get(lane, 0.0) for lane in pair.target.lanes),
        k,
        () if tried else tuple(lane.device for lanes in [*drafters, pair.target.lanes] for lane in lanes),
        max(1, len(drafters)),
    )


def _time_once(pair: CapturedPair, rows: int, k: int, mode: Mode, group: int) -> dict[Lane, float]:
    """By lane, what a round alone keeps it busy for."""
    spans = Spans()
    pair.place(range(pair.slots), group, drafting=k > 0)
    started = pair.state.lane.mark()
    pair.draft(rows, k, mode, spans.of_drafter)
    pair.verify(rows, k, mode, spans.of_target)
    ended = pair.state.lane.mark()
    pair.post_outcome(range(rows), rows, k, group)
    pair.graphs.synchronize()
    of_drafter, of_target = spans.seconds()
    if not spans.of_target:  # not timed lane by lane: on a CPU, or as it is
        of_target = {pair.state.lane: seconds_between(started, ended)}
    return of_drafter | of_target


def _round(pair: CapturedPair, rows: int, k: int, mode: Mode) -> None:
    pair.draft(rows, k, mode)
    pair.verify(rows, k, mode)


def _seconds(lane: Lane, step: Callable[[], None]) -> float:
    """The least time of a step that begins and ends on a lane."""
    for _ in range(_FIRST):
        step()
    least = float("inf")
    for _ in range(_REPEATS):
        start = lane.mark()
        step()
        end = lane.mark()
        lane.synchronize()
        least = min(least, seconds_between(start, end))
    return least


@contextmanager
def _timed_rows(pair: CapturedPair) -> Iterator[Mode]:
    """Gives rows that are timed a context. They stay where they are: they have ended.

    On one lane the padding slot stands in for all, and what its KV costs less is corrected by the first rounds. Over several lanes the number of
    groups hangs on it for good: each slot has KV of its own there, as much as a row has on average. Where tokens choose experts, each slot
    has tokens and KV of its own: equal ones would read too few, and those of the padding slot read none.
    """
    first, context = 0 if _route(pair) else pair.slots, min(_CONTEXT, pair.config.max_length - 1)
    if len(pair.lanes) > 1:
        first, context = 0, pair.config.max_length // 2
    if first == 0:
        for pool in pair.pools:
            for slot in range(pair.slots):
                if not pool.reserve([(slot, context + pair.config.max_k + 2)]):
                    break  # the others share the padding page
                if pool.sliding is not None:
                    pool.sliding.advance([(slot, context, context + pair.config.max_k + 2)])
    _stand(pair, context, first)
    pair.place(range(first, pair.slots))
    try:
        yield Mode.of([pair.config.sampling])
    finally:
        _stand(pair, 0, first)
        for pool in pair.pools:
            for slot in range(first, pair.slots):
                pool.evict(slot)


def _route(pair: CapturedPair) -> bool:
    """Whether a model of the pair is a mixture of experts."""
    return any(prefill.decoder.has_experts for prefill in (pair.prefill, *pair.drafter.prefills))


def _stand(pair: CapturedPair, context: int, first: int) -> None:
    for state in {pair.front, pair.state, *pair.drafting_states}:
        state.lane.run(partial(state.stand, context, first))


def _capture_prefills(pair: CapturedPair, say: Callable[[str], None]) -> None:
    sizes = pair.prefill.sizes
    for done, size in enumerate(reversed(sizes)):
        say(f"capturing prefill: {done} of {len(sizes)} sizes")
        for _ in range(2):
            dummy_prefill(pair, size)


def _catch_up_seconds_per_token(pair: CapturedPair) -> float:
    """Of the drafter, for one token of a full forward."""
    size = pair.prefill.sizes[-1]
    slot = 0 if _route(pair) else None
    return _seconds(pair.drafting_states[0].lane, lambda: dummy_prefill(pair, size, target=False, slot=slot)) / size


def _price_context(pair: CapturedPair, costs: RoundCosts) -> None:
    """What long rows make dearer: catching up with tokens deep in a row, and the KV that a draft step reads."""
    size, longest = pair.prefill.sizes[-1], pair.config.max_length
    length = min(size, longest)
    costs.timed_context = min(_CONTEXT, longest - 1)
    costs.catch_up_middle, deep = length / 2, longest - length
    slot = 0 if _route(pair) else None
    if deep > length and costs.catch_up_seconds_per_token:
        seconds = _seconds(
            pair.drafting_states[0].lane, lambda: dummy_prefill(pair, length, target=False, start=deep, slot=slot)
        )
        costs.catch_up_growth = max(0.0, seconds / length / costs.catch_up_seconds_per_token - 1) / deep
    if pair.device.type == "cuda":
        bytes_of_page = sum(sum(page_bytes(prefill.decoder).values()) for prefill in pair.drafter.prefills)
        costs.draft_seconds_per_token = bytes_of_page / PAGE / memory_bandwidth(pair.state.lane)


def memory_bandwidth(lane: Lane) -> float:
    """Bytes a second of a GPU's memory."""
    source = torch.empty(_COPIED, dtype=torch.uint8, device=lane.device)
    copied = torch.empty_like(source)

    def copy() -> None:
        copied.copy_(source)

    return 2 * _COPIED / _seconds(lane, partial(lane.run, copy))  # read and written
