"""Measuring, before the first row, what a round costs for a few batch sizes and k."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from specbatch.engine.batch import Batch, Row
from specbatch.engine.cache import SlotView
from specbatch.engine.config import EngineConfig
from specbatch.engine.controller import RoundCosts
from specbatch.engine.drafter import Drafter
from specbatch.engine.model import CausalLM
from specbatch.engine.request import AcceptanceRule, Request

_CONTEXT = 64  # tokens a measured row already has
_ENOUGH_SECONDS = 0.25  # a point is measured again until it has taken this long, or three times


def measure_costs(target: CausalLM, drafter: Drafter, batch: Batch, config: EngineConfig) -> RoundCosts:
    """Times draft and verify at one row and at all slots.

    Args:
        target: allocated for the batch's slots, which no row owns yet.
        drafter: the same.
        batch: empty, for the measured rows alone.
        config: for max_k, acceptance rule and max_length.
    """
    max_k, rule = config.max_k, config.acceptance_rule
    table = {}
    points = sorted({k for k in (0, 1, 2, 4, 8, 16) if k < max_k} | {max_k})
    prompt = [t % target.vocab_size for t in range(min(_CONTEXT, config.max_length - 1))]
    for rows in sorted({1, batch.slots}):
        for i in range(rows):
            slot = batch.join(Row(Request(f"warmup-{i}", prompt, 1)))
            drafter.join(slot)
        drafter.prepare(batch)
        # Drafting costs the same per token: one measurement at the largest k serves all.
        draft = _median_seconds(lambda: _draft(drafter, batch, max_k, rule, target.vocab_size)) / max_k
        for k in points:
            table[rows, k] = _median_seconds(lambda k=k: _verify(target, batch, k)) + k * draft  # type: ignore[misc]  # mypy does not see the default
        while batch.size:
            batch.leave(batch.size - 1)
    return RoundCosts(table)


def _draft(drafter: Drafter, batch: Batch, k: int, rule: AcceptanceRule, vocab_size: int) -> None:
    drafter.propose(batch, k, rule, vocab_size)
    drafter.rollback(batch)
    synchronize(batch.device)


def _verify(target: CausalLM, batch: Batch, k: int) -> None:
    positions = batch.positions(k + 1)
    target.forward(batch.tokens_at(positions), SlotView(slice(0, batch.size), positions, batch.extent(k))).argmax(-1)
    synchronize(batch.device)


def _median_seconds(call: Callable[[], None]) -> float:
    call()
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < _ENOUGH_SECONDS:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]


def synchronize(device: torch.device) -> None:
    """Waits for the device's queued work; the CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
