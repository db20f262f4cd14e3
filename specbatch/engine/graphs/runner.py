"""The graphs model runner: whole rounds replayed as CUDA graphs, which the host takes in one round late."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.cascade.choice import CascadeChooser
from specbatch.engine.graphs.kv.kv_manager import KVManager
from specbatch.engine.graphs.lanes import kept_current
from specbatch.engine.graphs.mode import Mode, SlotModes
from specbatch.engine.graphs.pair import CapturedPair
from specbatch.engine.graphs.rounds import (
    BusyLanes,
    CascadeRound,
    MaskedRound,
    RoundOverLanes,
    RoundWithLogprobs,
    Spans,
)
from specbatch.engine.graphs.sizes import bucket, most_drafts
from specbatch.engine.graphs.warmup import memory_bandwidth, warm_up
from specbatch.engine.logits.grammar import GrammarRound, mask_words
from specbatch.engine.logits.options import Processor
from specbatch.engine.model_runner import ModelRunner
from specbatch.engine.pipeline import RoundTimes
from specbatch.engine.queued_round import QueuedRound
from specbatch.engine.rounds import InFlightRound
from specbatch.engine.sequence import SequenceState
from specbatch.engine.speculation.round_costs import RoundCosts
from specbatch.engine.timing import Mark, is_reached, mark
from specbatch.engine.triton_support import refusing_kernels

_TIMED_EVERY = 13
"""Rounds, of which one is timed lane by lane: no multiple of usual numbers of groups, of which one would be timed every time."""


class GraphModelRunner(ModelRunner):
    """See ModelRunner. A row that ended in a round in flight stands still in the next one: on the device it is at its last position.

    Args:
        target: that describe.check.why_not finds nothing against, its rows limited.
        drafter: a ModelDrafter of the same kind, an NGramDrafter, or None.
        config: sizes and rules.
        slots: sequences at once.
    """

    steady = True

    def __init__(self, target: CausalLM, drafter: Drafter | None, config: EngineConfig, slots: int) -> None:
        super().__init__(config, slots, target.input_device)
        self.prefill_chunk = config.graphs_prefill_chunk
        for model in (target, *(drafter.models if isinstance(drafter, ModelDrafter) else ())):
            model.limit_rows(config.max_length)
        self.pair = CapturedPair(target, drafter, config, slots)
        self.kv = KVManager(self.pair, config)
        self.cascade = CascadeChooser(self.pair, config.cascade_attention)
        self.groups, self.drafters = config.micro_batches or 1, len(self.pair.drafting_states)
        self.costs: RoundCosts | None = None  # as measured at warm-up
        self.times: dict[tuple[int, int], RoundTimes] = {}  # likewise, what they follow from
        self.busy = BusyLanes(dict.fromkeys(self.pair.lanes, 0.0))  # where there are several
        self.timed_every = _TIMED_EVERY
        self._launched = 0
        self._finished: Mark | None = None  # the last round launched, where there are several lanes
        self._free_slots = list(range(slots - 1, -1, -1))
        self._modes = SlotModes()

    @property
    def depth(self) -> int:  # type: ignore[override]  # a constant of other runners
        """1; 0 while any row has a grammar: what may follow hangs on what the round before gave."""
        return 0 if self._modes.grammars else 1

    def warm_up(self, say: Callable[[str], None], *, measure: bool) -> RoundCosts:
        """Compiles kernels and captures all steps; each is timed as it is.

        Raises:
            KernelError: a kernel does not run on this GPU.
        """
        del measure
        with refusing_kernels(self.device):
            self.costs, self.groups, self.times = warm_up(self.pair, say)
            self.cascade.price(partial(memory_bandwidth, self.pair.state.lane))
        self.warm = True
        return copy.deepcopy(self.costs)

    def max_drafts(self, rows: int) -> int:
        """The largest k of a round of so many sequences."""
        return self.pair.max_drafts(rows)

    # -- KV --------------------------------------------------------------------------------------------------------------

    def room(self, sequences: Sequence[SequenceState], *, drafting: bool) -> int:
        """See KVManager."""
        return self.kv.room(sequences, drafting=drafting)

    def pages_to_join(self, sequence: SequenceState) -> int:
        """See KVManager."""
        return self.kv.pages_to_join(sequence)

    def tokens_to_join(self, sequence: SequenceState) -> int:
        """See KVManager."""
        return self.kv.tokens_to_join(sequence)

    def reserve(self, sequences: Sequence[SequenceState], k: int) -> bool:
        """Gives sequences the pages of the target that a round of k drafts may write; False where there are not enough."""
        return self.kv.reserve(sequences, k)

    def reserve_drafter(self, sequences: Sequence[SequenceState], k: int) -> bool:
        """As reserve, of the drafter's pages."""
        return self.kv.reserve_drafter(sequences, k)

    def prefill(self, sequences: Sequence[SequenceState]) -> int:
        """Gives sequences slots and pages, and queues the target's prefill of all but their last tokens and of what they share."""
        pair = self.pair
        start = pair.front.lane.mark()
        slots = [self._free_slots[-1 - i] for i in range(len(sequences))]
        begins = self.kv.join(slots, sequences)
        pair.join(slots, sequences)
        sliding = pair.target_pool.sliding
        places = list(zip(slots, begins, sequences, strict=True))
        filled = pair.prefill.fill(
            [(slot, begin, s.length) for slot, begin, s in places if not s.scores_prompt], sliding
        )
        if scored := [(slot, sequence) for slot, _, sequence in places if sequence.scores_prompt]:
            filled += pair.prefill_with_logprobs.fill_rows(scored, sliding)
        del self._free_slots[-len(sequences) :]
        self._modes.forget()
        self.cascade.forget()
        self.timer.add(start, pair.front.lane.mark(), of_drafter=False)
        for slot, sequence in zip(slots, sequences, strict=True):
            sequence.slot = slot
            self._modes.join(slot, sequence.request)
        return filled

    def evict(self, sequence: SequenceState, *, poisoned: bool = False) -> None:
        """Takes a slot and its pages back."""
        self.kv.evict(sequence.slot, poisoned=poisoned)
        self._free_slots.append(sequence.slot)
        self._modes.leave(sequence.slot)

    def entered(self) -> AbstractContextManager[object]:
        """See ModelRunner: streams of lanes are current for what is queued there, one after the other."""
        if self.pair.lanes[0].stream is None:
            return super().entered()
        return kept_current(*dict.fromkeys(lane.device for lane in self.pair.lanes))

    def synchronize(self) -> None:
        """Waits for all that is queued on several lanes, whose memory is about to go."""
        self.pair.graphs.synchronize()

    # -- the drafter -----------------------------------------------------------------------------------------------------

    def lags(self, sequences: Sequence[SequenceState]) -> list[int]:
        """Tokens of each sequence that the drafter must take in before it drafts, as far as the host knows."""
        return self.pair.drafter.lags(sequences)

    def catch_up(self, sequences: Sequence[SequenceState]) -> bool:
        """The drafter takes in what it has not seen; False where a round in flight must land first: the host does not know its tokens yet."""
        lagging = self.pair.drafter.lagging(sequences)
        if not lagging:
            return True
        if any(sequence.in_flight for sequence in lagging):
            return False
        lane = self.pair.drafting_state(sequences[0].group).lane
        start = lane.mark()
        self.pair.drafter.catch_up(lagging)
        self.timer.add(start, lane.mark(), of_drafter=True)
        return True

    def learn(self, finished: Sequence[SequenceState]) -> None:
        """See ModelRunner."""
        self.pair.drafter.learn(finished)

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def max_forced(self, rows: int) -> int:
        """The largest k of a round whose drafts are given: none over several lanes."""
        most = self.pair.state.max_k if len(self.pair.lanes) == 1 else 0
        return most_drafts(bucket(self.pair.buckets, rows), most)

    def launch(
        self, sequences: Sequence[SequenceState], k: int, drafts: Sequence[Sequence[int]] | None = None
    ) -> InFlightRound:
        """Queues a round, and the copy of its outcome to the host."""
        pair, rows, group = self.pair, bucket(self.pair.buckets, len(sequences)), sequences[0].group
        slots = [sequence.slot for sequence in sequences]
        mode = self.cascade.choose(self._modes.of(slots, sequences, group), slots, group, rows, k)
        pair.drafter.grammars = None
        if mode.processors & Processor.GRAMMAR:
            grammars = [sequence.request.grammar for sequence in sequences]
            vocab_size = pair.target.vocab_size
            # Of several groups one's masks may still be on their way to the device when another's are made.
            memory = pair.state.options.memory_for_masks(mask_words(vocab_size)) if self.groups == 1 else None
            pair.drafter.grammars = GrammarRound(grammars, vocab_size, memory, drafts)
        if not k or drafts is not None:
            pair.drafter.skip(sequences)
        launched = self._launch(slots, rows, k, mode, group)
        if pair.drafter.grammars is not None:
            launched = MaskedRound(launched, pair.drafter.grammars)
        if mode.cascade:
            launched = CascadeRound(launched)
        if not mode.processors & Processor.LOGPROBS:
            return launched
        logprobs = pair.state.options.read_logprobs(len(slots), k)
        asked = [sequence.request.top_logprobs for sequence in sequences]
        return RoundWithLogprobs(launched, logprobs, asked, pair.state.lane.mark())

    def _launch(self, slots: list[int], rows: int, k: int, mode: Mode, group: int) -> InFlightRound:
        pair = self.pair
        if len(pair.lanes) > 1:
            return self._launch_over_lanes(slots, rows, k, mode, group)
        started = mark(self.device)
        pair.place(slots, group)
        pair.draft(rows, k, mode)
        drafted = mark(self.device)
        pair.verify(rows, k, mode)
        outcome = pair.read_outcome(len(slots), k)
        return QueuedRound(outcome, started, drafted, mark(self.device), self.timer.take())

    def _launch_over_lanes(self, slots: list[int], rows: int, k: int, mode: Mode, group: int) -> InFlightRound:
        pair, before, prefills = self.pair, self._finished, self.timer.take()
        self._launched += 1
        steady = not (before is None or prefills or is_reached(before))
        spans = Spans() if not steady or self._launched % self.timed_every == 0 else None
        pair.place(slots, group, drafting=k > 0)
        pair.draft(rows, k, mode, spans.of_drafter if spans is not None else None)
        pair.verify(rows, k, mode, spans.of_target if spans is not None else None)
        pair.post_outcome(slots, rows, k, group)
        outcome = pair.read_outcome_of(group, len(slots), k)
        self._finished = pair.state.lane.mark()
        share = self.times[rows, k].drafting_share if (rows, k) in self.times else 0.0
        return RoundOverLanes(outcome, before, self._finished, prefills, share, spans, self.busy, steady)

    def regroup(self, groups: int, sequences: Sequence[SequenceState]) -> None:
        """See ModelRunner. Slots and pages are those of all groups: nothing moves but to other drafters."""
        self.pair.settle()
        self.pair.drafter.regrouped(sequences)
        self._modes.forget()
        self.cascade.forget()
        self.groups = groups

    def commit(self, sequences: Sequence[SequenceState], k: int) -> None:
        """Accepted drafts are the sequences' own tokens: the drafter has their KV."""
        if k:
            self.pair.drafter.commit(sequences)
