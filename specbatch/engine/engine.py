"""Batched speculative decoding: rows in, completions out, as each row finishes.

A round: the drafter proposes k tokens a row, ONE target forward verifies k + 1 positions of every row, a lossless rule
decides per row how many stand, each row commits accepted + 1 tokens. Rows that end leave at once; waiting rows take
their slots before the next round.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from specbatch.engine.config import EngineConfig
from specbatch.engine.controller import AdaptiveK, Controller, FixedK, RoundReport
from specbatch.engine.general.batch import Batch, Row
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.prefill import prefill
from specbatch.engine.general.round import Outcome, run_round
from specbatch.engine.general.warmup import every_k, measure_costs
from specbatch.engine.memory import out_of_memory, release, too_little_memory
from specbatch.engine.request import Completion, Request
from specbatch.engine.round_costs import RoundCosts
from specbatch.engine.stats import EngineStats

_T = TypeVar("_T")


class Engine:
    """One target, an optional drafter, and the rows they are decoding.

    Args:
        target: the model whose output counts.
        drafter: what proposes tokens; None decodes with the target alone.
        config: sizes and rules.
        controller: chooses k; made from the config and measured costs by default.
    """

    def __init__(
        self,
        target: CausalLM,
        drafter: Drafter | None = None,
        config: EngineConfig | None = None,
        controller: Controller | None = None,
    ) -> None:
        self.target = target
        self.drafter = drafter
        self.config = config or EngineConfig()
        self.controller = controller
        self.stats = EngineStats()
        self._waiting: deque[Row] = deque()  # rows put back when memory ran out
        self._joined = 0  # tokens of rows that took others' slots since the round before
        for model in [target, *([drafter.model] if isinstance(drafter, ModelDrafter) else [])]:
            model.limit_rows(self.config.max_length)
        self._allocate(self.config.max_sequences)

    def warmup(self, say: Callable[[str], None] | None = None) -> None:
        """Measures what rounds cost, where k is to be chosen or the config asks. Called by the first generate() if not before.

        Args:
            say: told what takes a while.
        """
        if self.controller is not None:
            return
        start = time.perf_counter()
        config, drafter = self.config, self.drafter
        if drafter is None or config.max_k == 0:
            self.controller = FixedK(0)
        elif config.num_speculative_tokens is None:
            self.controller = AdaptiveK(self._costs(drafter, every_k(config.max_k), say), config.max_k)
        else:
            priced = config.price_plain_rounds
            self.controller = FixedK(config.max_k, self._costs(drafter, (0, config.max_k), say) if priced else None)
        self.stats.warmup_seconds = time.perf_counter() - start

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Decodes the requests, yielding each completion as its row ends, in the order in which they end.

        Requests are drawn from the iterable only as slots come free. An iterator may end for now, when none is ready: it is
        asked again before the next round, and taken at its word only when no row is left to decode. A request needs at least one prompt token, at least one new
        token, and prompt + new tokens <= max_length.

        Raises:
            OutOfMemoryError: even one row at a time does not fit.
        """
        self.warmup()
        source = iter(requests)
        try:
            while True:
                self._within_memory(lambda: self._refill(source))
                if self.batch.size:
                    yield from self._within_memory(self._round) or ()
                elif not self._waiting:
                    return
        finally:  # a caller that stops early leaves no rows behind
            self._waiting.clear()
            while self.batch.size:
                self.batch.leave(self.batch.size - 1)
            self.stats.active = 0

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def _round(self) -> list[Completion]:
        """One round, and what follows from it: counts, finished rows, what the controller learns."""
        batch, stats, drafter = self.batch, self.stats, self.drafter
        assert self.controller is not None, "warmup() before a round"
        rows, emitted = batch.size, stats.emitted
        lag = drafter.lag(batch) if drafter is not None else 0
        k = self.controller.choose(rows, lag, sum(row.remaining for row in batch.rows)).k
        began = time.perf_counter()
        if k and drafter is not None:
            with stats.timed("prefill"):
                drafter.prepare(batch)
        start = time.perf_counter()
        outcome = run_round(self.target, drafter, batch, k, self.config.acceptance_rule, stats)
        seconds = time.perf_counter() - start
        stats.catch_up_seconds += start - began
        plain = self.controller.plain_seconds if k else seconds
        joined, self._joined = self._joined, 0
        self.controller.observe(
            RoundReport(
                rows,
                k,
                seconds,
                outcome.proposed_at,
                outcome.accepted_at,
                start - began,
                max(outcome.drafted),
                joined=joined,
            )
        )
        with stats.timed("host"):
            stats.count_round(k, outcome.drafted, outcome.accepted, outcome.accepted_at)
            completions = self._give_tokens(outcome)
            stats.count_plain(stats.emitted - emitted, rows, plain)
            return completions

    def _give_tokens(self, outcome: Outcome) -> list[Completion]:
        """Hands the rows their tokens; rows that end leave."""
        ended: list[tuple[int, Completion]] = []
        for slot, row in enumerate(self.batch.rows):
            row.rounds += 1
            row.drafted += outcome.drafted[slot]
            row.accepted += outcome.accepted[slot]
            if not outcome.finite[slot]:
                ended.append((slot, row.complete("error", "the target's logits are not finite")))
                continue
            before = len(row.token_ids)
            reason = row.extend(outcome.tokens[slot])
            self.stats.emitted += len(row.token_ids) - before
            if reason is not None:
                ended.append((slot, row.complete(reason)))
        if self.drafter is not None:
            self.drafter.rollback(self.batch)
        for slot, completion in reversed(ended):  # from the back, so that slots still to leave do not move
            self._leave(slot, poisoned=completion.finish_reason == "error")
        return [completion for _, completion in ended]

    # -- rows coming and going ------------------------------------------------------------------------------------------

    def _refill(self, source: Iterator[Request]) -> None:
        """Rows that wait take the free slots, and their prompts are prefilled."""
        batch, stats = self.batch, self.stats
        with stats.timed("idle"):
            while len(self._waiting) < batch.free:
                request = next(source, None)
                if request is None:
                    break
                self._waiting.append(self._admit(request))
        joining = list(islice(self._waiting, batch.free))
        if not joining:
            return
        if batch.size and stats.finished:
            self._joined += sum(row.length for row in joining)
        with stats.timed("prefill"):
            # Rows stay in _waiting until their prefill is done: running out of memory in it loses none.
            slots = [batch.join(row) for row in joining]
            if self.drafter is not None:
                for slot in slots:
                    self.drafter.join(slot)
            prefill(self.target, batch, dict.fromkeys(slots, 0), self.config.prefill_chunk)
        for _ in joining:
            self._waiting.popleft()
        stats.active = batch.size

    def _admit(self, request: Request) -> Row:
        prompt, new = len(request.prompt_token_ids), request.max_new_tokens
        assert prompt > 0, f"row {request.id}: an empty prompt"
        assert new > 0, f"row {request.id}: no new tokens asked for"
        assert prompt + new <= self.config.max_length, f"row {request.id}: {prompt} + {new} tokens > max_length"
        self.stats.prompt_tokens += prompt
        return Row(request)

    def _leave(self, slot: int, *, poisoned: bool) -> None:
        batch, cache = self.batch, self.target.cache
        assert cache is not None, "allocated in __init__"
        moved_from = batch.leave(slot)
        if moved_from is not None:
            cache.move(moved_from, slot)
            if self.drafter is not None:
                self.drafter.move(moved_from, slot)
        if poisoned:
            cache.clear(batch.size)  # the slot that is free now
            self.stats.failed += 1
        else:
            self.stats.finished += 1
        self.stats.active = batch.size

    def _costs(self, drafter: Drafter, points: Collection[int], say: Callable[[str], None] | None) -> RoundCosts:
        if say is not None:
            say("measuring what rounds cost")
        costs = None
        while costs is None:  # None: memory ran out, and the batch is half as large now
            costs = self._within_memory(lambda: self._measure_costs(drafter, points))
        return costs

    def _measure_costs(self, drafter: Drafter, points: Collection[int]) -> RoundCosts:
        batch = Batch(self.batch.slots, self.config.max_positions, self.batch.device)
        return measure_costs(self.target, drafter, batch, self.config, points)

    # -- memory ----------------------------------------------------------------------------------------------------------

    def _allocate(self, slots: int) -> None:
        self.target.allocate(slots, self.config.max_positions)
        if self.drafter is not None:
            self.drafter.allocate(slots, self.config.max_positions)
        self.batch = Batch(slots, self.config.max_positions, self.target.input_device)
        self.stats.max_sequences = slots

    def _within_memory(self, step: Callable[[], _T]) -> _T | None:
        """Runs a step; when memory runs out, halves the batch instead and returns None. No row is lost."""
        try:
            return step()
        except RuntimeError as error:
            reason = out_of_memory(error)
        # Outside of the handler: its traceback would keep the step's tensors alive.
        self._halve(reason)
        return None

    def _halve(self, reason: str) -> None:
        slots = self.batch.slots
        if slots == 1:
            raise too_little_memory(self.config.max_length, reason)
        waiting = set(map(id, self._waiting))
        self._waiting.extendleft(row for row in reversed(self.batch.rows) if id(row) not in waiting)
        release(self.target.input_device)
        self._allocate(slots // 2)
