"""Measuring, before the first row, what a round costs for a few batch sizes and k."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.batch import Batch
from specbatch.engine.general.cache import SlotView
from specbatch.engine.general.drafter import Drafter, Proposal
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.round import accept, verify
from specbatch.engine.request import Request
from specbatch.engine.sequence import SequenceState
from specbatch.engine.speculation.depth import Speculation
from specbatch.engine.speculation.round_costs import RoundCosts

_CONTEXT = 64  # tokens a measured row already has
_PASSES = 3  # over all points, in turns: a busy moment of the machine does not fall on one point alone
_ENOUGH_SECONDS = 5.0  # no further pass after this long
_DRAFT = -1  # the key of drafting max_k tokens, beside those of verifying k


def measured_ks(speculation: Speculation) -> list[int]:
    """The k to measure, 0 and the largest among them; where any may be chosen, costs between them are linear."""
    steps = (0, 1, 2, 4, 8, 16) if speculation.is_adaptive else (0,)
    return sorted({k for k in steps if k < speculation.max_k} | {speculation.max_k})


def measure_costs(target: CausalLM, drafter: Drafter, batch: Batch, config: EngineConfig) -> RoundCosts:
    """Times draft and verify at one row and at all slots.

    Args:
        target: allocated for the batch's slots, which no row owns yet.
        drafter: the same.
        batch: empty, for the measured rows alone.
        config: for the k to measure, acceptance rule and max_length.
    """
    max_k, points = config.max_k, measured_ks(config.speculation)
    prompt = [t % target.vocab_size for t in range(min(_CONTEXT, config.max_length - 1))]
    table: dict[tuple[int, int], float] = {}
    catch_up_seconds_per_token = 0.0
    for rows in sorted({1, batch.slots}):
        for slot in batch.join([SequenceState(Request(f"warmup-{n}", prompt, 1)) for n in range(batch.size, rows)]):
            drafter.join(slot)
        lag = sum(drafter.lags(batch))
        start = time.perf_counter()
        drafter.catch_up(batch)
        _synchronize(batch.device)
        catch_up_seconds_per_token = (time.perf_counter() - start) / max(1, lag)
        calls: dict[int, Callable[[], None]] = {k: partial(_verify, target, drafter, batch, k) for k in points}
        calls[_DRAFT] = partial(_draft, drafter, batch, config, target.vocab_size)
        seconds = _least_seconds(calls)
        for k in points:  # drafting costs the same per token: one measurement at the largest k serves all
            table[rows, k] = seconds[k] + seconds[_DRAFT] * k / max_k
    return RoundCosts(table, catch_up_seconds_per_token)


def _draft(drafter: Drafter, batch: Batch, config: EngineConfig, vocab_size: int) -> None:
    drafter.propose(batch, config.max_k, config.acceptance_rule, vocab_size)
    drafter.rollback(batch)
    _synchronize(batch.device)


def _verify(target: CausalLM, drafter: Drafter, batch: Batch, k: int) -> None:
    """What a round does once k tokens a row are drafted, but for the commit."""
    drafts = batch.tokens_at(batch.positions(k, start=1))  # any tokens will do
    proposal = Proposal(drafts, torch.full((batch.size,), k, device=batch.device), None)
    logits = verify(target, batch, proposal)
    acceptance = accept(logits, batch, proposal, "coupled")
    if drafter.target_layers:
        drafter.take_in(batch, SlotView(slice(0, batch.size), batch.positions(k + 1), None), target.tapped())
    logits.amax(-1).isfinite().all(-1).tolist()
    acceptance.accepted.tolist()
    acceptance.tokens.tolist()


def _least_seconds(calls: Mapping[int, Callable[[], None]]) -> dict[int, float]:
    """The least time of each call: what it takes when nothing else disturbs it. The first pass only warms up."""
    least: dict[int, float] = {}
    began = time.perf_counter()
    for done in range(1 + _PASSES):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            spent = time.perf_counter() - start
            least[key] = min(least.get(key, spent), spent) if done > 1 else spent
        if done and time.perf_counter() - began > _ENOUGH_SECONDS:
            break
    return least


def _synchronize(device: torch.device) -> None:
    """Waits for the device's queued work; the CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
