"""The general model runner: any causal LM of transformers, on any device, a slot of KV for each sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.batch import Batch
from specbatch.engine.general.cache import SlotView
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.prefill import prefill
from specbatch.engine.general.prompt_logprobs import prefill_with_logprobs
from specbatch.engine.general.quicker_modules import Product
from specbatch.engine.general.round import queue_round, run_round
from specbatch.engine.general.shared_prefill import prefill_shared
from specbatch.engine.general.warmup import measure_costs
from specbatch.engine.model_runner import ModelRunner
from specbatch.engine.queued_round import QueuedRound
from specbatch.engine.rounds import InFlightRound, RoundOutput
from specbatch.engine.sequence import SequenceState
from specbatch.engine.speculation.depth import MOST_FORCED
from specbatch.engine.speculation.round_costs import RoundCosts
from specbatch.engine.timing import mark, seconds_of


@dataclass(frozen=True, slots=True)
class _CompletedRound:
    """A round that was complete when it was launched."""

    output: RoundOutput

    def wait(self) -> RoundOutput:
        """What it did."""
        return self.output


@dataclass(frozen=True, slots=True)
class _RoundOfSlots:
    """A round of all slots, of which the host asks for some."""

    in_flight: InFlightRound
    slots: Sequence[int]

    def wait(self) -> RoundOutput:
        """What it did."""
        return self.in_flight.wait().of(self.slots)


class GeneralModelRunner(ModelRunner):
    """See ModelRunner. Rounds are those of the papers, one after the other; every running sequence is in each.

    queues: a GPU is given the next round of the target alone before the host has read the tokens of the last one. A sequence that ends in a round
        in flight rides along in the one behind it: there is a position left for that.

    Args:
        target: the model whose output counts.
        drafter: what proposes tokens; None: nothing.
        config: sizes and rules.
        slots: sequences at once.
        product_on: a device's product of few tokens, see quicken.
    """

    steady = False

    def __init__(
        self,
        target: CausalLM,
        drafter: Drafter | None,
        config: EngineConfig,
        slots: int,
        product_on: Callable[[torch.device], Product | None] = lambda _: None,
    ) -> None:
        self.target = target
        self.drafter = drafter or Drafter()
        super().__init__(config, slots, target.input_device)
        self.queues = self.device.type == "cuda" and type(self.drafter) is Drafter
        # On a GPU a forward of few tokens waits for Python as long as one of many.
        self.prefill_chunk = config.graphs_prefill_chunk if self.device.type == "cuda" else config.prefill_chunk
        self._models = [target, *([drafter.model] if isinstance(drafter, ModelDrafter) else [])]
        for model in self._models:
            model.limit_rows(config.max_length)
        target.tap(self.drafter.target_layers)
        target.allocate(slots, config.max_positions)
        self.drafter.allocate(slots, config.max_positions)
        if not self.drafter.target_layers:  # which are read by Python
            for model in self._models:
                model.capture_forwards(product=product_on(model.input_device))
        self.batch = Batch(slots, config.max_positions, self.device)
        self.batch.shares_prefixes = config.prefix_caching

    @property
    def depth(self) -> int:  # type: ignore[override]  # a constant of other runners
        """1 where rounds are queued; 0 while any row needs the host between them."""
        return int(self.queues and not self.batch.needs_host)

    def warm_up(self, say: Callable[[str], None], *, measure: bool) -> RoundCosts | None:
        """Measures costs where they are needed. Forwards are captured as their shapes come."""
        costs = None
        if measure:
            say("measuring what rounds cost")
            batch = Batch(self.slots, self.config.max_positions, self.device)
            costs = measure_costs(self.target, self.drafter, batch, self.config)
        for model in self._models:
            if model.captured is not None:
                model.captured.probe()
        if self.target.captured is not None and self.target.captured.why_not is not None:
            say(str(self.captures))
        self.warm = True
        return costs

    @property
    def captures(self) -> str | None:
        """Whether forwards are CUDA graphs, or why not, in words; None where there is no GPU that has any."""
        found = self.target.captured
        if found is None:
            return None
        if found.why_not is not None:
            return f"its forward cannot be captured as a CUDA graph ({found.why_not})"
        return "whole forwards as CUDA graphs"

    def max_drafts(self, rows: int) -> int:
        """Any k."""
        del rows
        return self.config.max_k

    def prefill(self, sequences: Sequence[SequenceState]) -> int:
        """Gives sequences slots, and fills the target's KV for all but their last tokens."""
        start = mark(self.device)
        slots = self.batch.join(sequences)
        for slot in slots:
            self.drafter.join(slot)
        starts = {sequence.slot: 0 for sequence in sequences if not sequence.scores_prompt}
        computed = self._prefill_with_logprobs([slot for slot in slots if slot not in starts])
        chunk = self.prefill_chunk
        if self.drafter.target_layers:  # it must be shown every position
            prefill(self.target, self.batch, starts, chunk, self._show)
            computed += sum(self.batch.rows[slot].length for slot in starts)
        else:
            filled = [0 if slot in starts else row.length for slot, row in enumerate(self.batch.rows)]
            computed += prefill_shared(self.target, self.batch, starts, filled, chunk)
        self.timer.add(start, mark(self.device), of_drafter=False)
        return computed

    def _prefill_with_logprobs(self, slots: Sequence[int]) -> int:
        """Of the rows that ask for those of their prompts; returns how many tokens that were."""
        seen = self._show if self.drafter.target_layers else lambda _: None
        found = prefill_with_logprobs(self.target, self.batch, slots, self.prefill_chunk, seen) if slots else {}
        for slot, logprobs in found.items():
            row = self.batch.rows[slot]
            row.prompt_logprobs = partial(logprobs.read, row.request)
        return sum(self.batch.rows[slot].length for slot in slots)

    def _show(self, view: SlotView) -> None:
        self.drafter.take_in(self.batch, view, self.target.tapped())

    def evict(self, sequence: SequenceState, *, poisoned: bool = False) -> None:
        """Takes a slot back; the last sequence of the batch moves into it."""
        batch, cache, slot = self.batch, self.target.cache, sequence.slot
        assert cache is not None, "allocated in __init__"
        moved_from = batch.leave(slot)
        if moved_from is not None:
            cache.move(moved_from, slot)
            self.drafter.move(moved_from, slot)
        if poisoned:
            cache.clear(batch.size)  # the slot that is free now

    def lags(self, sequences: Sequence[SequenceState]) -> list[int]:
        """Tokens of each sequence that the drafter would take in before it drafts."""
        lags = self.drafter.lags(self.batch)
        return [lags[sequence.slot] for sequence in sequences]

    def catch_up(self, sequences: Sequence[SequenceState]) -> bool:
        """The drafter takes in what it has not seen."""
        if any(self.lags(sequences)):
            start = mark(self.device)
            self.drafter.catch_up(self.batch)
            self.timer.add(start, mark(self.device), of_drafter=True)
        return True

    def learn(self, finished: Sequence[SequenceState]) -> None:
        """See ModelRunner."""
        if self.drafter.learns:
            self.drafter.learn(self.batch, [sequence.text() for sequence in finished])

    def max_forced(self, rows: int) -> int:
        """Any k: no row is verified beyond its last token."""
        del rows
        return MOST_FORCED

    def launch(
        self, sequences: Sequence[SequenceState], k: int, drafts: Sequence[Sequence[int]] | None = None
    ) -> InFlightRound:
        """Queues a round where the target is alone; else runs it to its end."""
        slots = [sequence.slot for sequence in sequences]
        if self.depth:
            start = mark(self.device)
            outcome = queue_round(self.target, self.batch)
            end = mark(self.device)
            return _RoundOfSlots(QueuedRound(outcome, start, start, end, self.timer.take()), slots)
        assert len(sequences) == self.batch.size, "every sequence of the batch takes part"
        by_slot = None
        if drafts is not None:
            by_slot = [list[int]()] * len(sequences)
            for slot, tokens in zip(slots, drafts, strict=True):
                by_slot[slot] = list(tokens)
        output = run_round(self.target, self.drafter, self.batch, k, self.config.acceptance_rule, by_slot)
        prefill_seconds, catch_up_seconds = seconds_of(self.timer.take())
        output = output.of(slots)
        return _CompletedRound(replace(output, prefill_seconds=prefill_seconds, catch_up_seconds=catch_up_seconds))

    def commit(self, sequences: Sequence[SequenceState], k: int) -> None:
        """The drafter forgets what was rejected."""
        del sequences, k
        self.drafter.rollback(self.batch)
