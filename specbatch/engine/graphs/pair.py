"""Everything of the graphs runner that lives on the devices: models, pages, rows' state, and the captured steps over them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.eagle3 import Eagle3Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner, Span
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.drafters.drafter import GraphDrafter
from specbatch.engine.graphs.drafters.eagle3 import HeadDrafter
from specbatch.engine.graphs.drafters.head import packed_head
from specbatch.engine.graphs.drafters.lookup import LookupDrafter
from specbatch.engine.graphs.drafters.paged import PagedDrafter
from specbatch.engine.graphs.drafters.replicated import ReplicatedDrafter
from specbatch.engine.graphs.drafters.windowed import WindowedDrafter, WindowPool, shown_positions
from specbatch.engine.graphs.handover import Inbox, Outbox
from specbatch.engine.graphs.kv.pool import PagePool
from specbatch.engine.graphs.lane_assignment import lanes_of
from specbatch.engine.graphs.logits.prompt_logprobs import PrefillWithLogprobs
from specbatch.engine.graphs.logits.token_choice import TokenChooser
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.ops import operations
from specbatch.engine.graphs.prefill import Prefill
from specbatch.engine.graphs.sizes import bucket, buckets, most_drafts, page_counts, pages_of_windows, with_windows
from specbatch.engine.graphs.state import RowState
from specbatch.engine.graphs.verifier import Verifier
from specbatch.engine.host_copies import queue_copy_to_host
from specbatch.engine.memory import free_cached
from specbatch.engine.queued_round import FIELDS
from specbatch.engine.sequence import SequenceState


class CapturedPair:
    """Target and drafter on their devices, for so many rows at once.

    lanes: one, or one for each stage of the target and of each drafter
    most_groups: of rows in flight, at the most that may pay
    front, state: the rows' lines where the target begins and where its head is: one where that is one lane
    drafting_states: those where drafts are made: of each drafter, where there are several

    Args:
        target: its weights are packed.
        drafter: a ModelDrafter, whose model is packed too, an Eagle3Drafter, an NGramDrafter, or None.
        config: sizes and rules.
        slots: rows at once.
    """

    def __init__(self, target: CausalLM, drafter: Drafter | None, config: EngineConfig, slots: int) -> None:
        self.config = config
        self.slots = slots
        ops, positions = operations(target.input_device), config.max_positions
        self.target = Decoder(target, ops, positions, config.stages_per_device)
        shown = shown_positions(config)
        models = drafter.models[: config.micro_batches] if isinstance(drafter, ModelDrafter) else ()
        drafting = [Decoder(model, ops, shown or positions) for model in models]
        self.lanes = lanes_of(self.target, drafting, apart=config.drafter_apart)
        alone = len(self.lanes) == 1
        if alone:
            del drafting[1:]  # there is one group of rows
        front, back = self.target.input_lane, self.target.head_lane
        self.device = back.device
        for device in {lane.device for lane in self.lanes}:
            free_cached(device)  # pages take what is free
        self.state = RowState(slots, positions, config.most_k, back)
        head = packed_head(drafter, self.target, self.state) if isinstance(drafter, Eagle3Drafter) else None
        beside = head.page_bytes if head is not None else 0
        sized = slots, positions, config.kv_reserve_of, beside, shown
        sliding, of_each = with_windows(
            lambda sliding: [page_counts(self.target, each, *sized, sliding) for each in drafting or (None,)],
            pages_of_windows(self.target, config, slots),
        )
        pool_of = partial(PagePool, slots=slots, max_positions=positions, cascade=config.cascade_attention is not False)
        self.target_pool = pool_of(self.target, min(pages for pages, _ in of_each), sliding=sliding)
        pools = [
            pool_of(decoder, pages) if shown is None else WindowPool(decoder, pages, slots, shown)
            for decoder, (_, pages) in zip(drafting, of_each, strict=False)
        ]
        self.front = self.state if front is back else RowState(slots, positions, config.most_k, front)
        self.graphs = CudaGraphRunner(self.lanes)
        self.most_groups = 1 if alone else len(self.lanes) + 1
        self.buckets = buckets(slots, config.micro_batches or self.most_groups)
        self.prefill = Prefill(self.target, self.front, self.graphs, config.graphs_prefill_chunk, head)
        self.drafter = GraphDrafter()
        self.drafting_states: tuple[RowState, ...] = (self.front,)
        if drafting:
            drafters = [self._paged(decoder, pool, alone) for decoder, pool in zip(drafting, pools, strict=True)]
            self.drafter = drafters[0] if len(drafters) == 1 else ReplicatedDrafter(drafters)
            self.drafting_states = tuple(each.state for each in drafters)
        elif head is not None:
            head.allocate(self.target_pool.pages)
            self.drafter = HeadDrafter(head, self._chooser(self.state), self.graphs)
        elif drafter is not None:
            assert isinstance(drafter, NGramDrafter), "see make_engine"
            self.drafter = LookupDrafter(drafter, self.front, self.graphs, config.acceptance_rule)
        self.pools = (self.target_pool, *self.drafter.pools)
        self._most = config.max_k if drafter is not None else 0
        self.verifier = Verifier(self.target, self.drafter, self._chooser(self.state), self._chooser(self.front))
        self._outboxes = [Outbox(state, self.graphs) for state in self.drafting_states if state is not self.front]
        beginning = () if alone else dict.fromkeys([*self.drafting_states, self.front])
        self._inboxes = {state: self._inbox(state) for state in beginning}
        self._placed: tuple[Sequence[int], int] = (), 0  # slots and group of the next round
        self._on_host: dict[int, list[Tensor]] = {}  # by group: outcomes that the host has read, or will read first
        for lane in self.lanes if self._inboxes else ():
            if lane.device.type == "cuda":
                torch.cuda.synchronize(lane.device)  # what was filled here is used on the lanes

    def _inbox(self, state: RowState) -> Inbox:
        drafters = [outbox.state.lane for outbox in self._outboxes] if state is self.front else []
        groups = self.config.micro_batches or self.most_groups
        return Inbox(state, self.state, drafters, self.graphs, groups)

    def _paged(self, decoder: Decoder, pool: PagePool, alone: bool) -> PagedDrafter:
        config, graphs = self.config, self.graphs
        state = self.state if alone else RowState(self.slots, config.max_positions, config.most_k, decoder.head_lane)
        catch_up = Prefill(decoder, state, graphs, config.graphs_prefill_chunk)
        parts = decoder, pool, catch_up, self._chooser(state), graphs, None if alone else self.state
        windowed = isinstance(pool, WindowPool)
        return WindowedDrafter(config.drafter_window or 0, *parts) if windowed else PagedDrafter(*parts)

    def _chooser(self, state: RowState) -> TokenChooser:
        return TokenChooser(state, self.target.ops, self.target.vocab_size, self.config.acceptance_rule)

    @cached_property
    def prefill_with_logprobs(self) -> PrefillWithLogprobs:
        """Of the target, once any row asks for it."""
        return PrefillWithLogprobs(self.target, self.front, self.state, self.graphs, self.prefill.head)

    def drafting_state(self, group: int) -> RowState:
        """Where drafts for a group are made."""
        return self.drafting_states[group % len(self.drafting_states)]

    def max_drafts(self, rows: int) -> int:
        """The largest k for so many rows: a fixed k as it is, an adaptive one while the logits of their bucket stay small."""
        adaptive = self.config.speculation.is_adaptive
        return most_drafts(bucket(self.buckets, rows), self._most) if adaptive else self._most

    def ks(self, rows: int) -> list[int]:
        """The k that a bucket may be asked for, largest first; 0 is always among them."""
        return self.config.speculation.choices(self.max_drafts(rows))

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def join(self, slots: Sequence[int], sequences: Sequence[SequenceState]) -> None:
        """Writes the lines of joining rows where the target needs them."""
        for state in dict.fromkeys([self.front, self.state]):
            state.join(slots, sequences)

    def place(self, slots: Sequence[int], group: int = 0, *, drafting: bool = True) -> None:
        """Sets the rows of the next round, and brings page tables and lines up to date.

        Args:
            slots: of the rows.
            group: of rows.
            drafting: whether it is a round with drafts.
        """
        for pool in self.pools:
            pool.upload()
        self._placed, self.drafter.group = (slots, group), group
        if not self._inboxes:
            self.state.place(slots, group)
        elif drafting:
            self._inboxes[self.drafting_state(group)].begin(slots, group)
        else:
            self._inboxes[self.front].begin(slots, group)
            if self._outboxes:
                self._inboxes[self.drafting_state(group)].drop(group)

    def draft(self, rows: int, k: int, mode: Mode, spans: list[Span] | None = None) -> None:
        """Queues the drafting of k tokens a row, for a bucket of the rows that are placed."""
        if not k:
            return
        if (grammars := self.drafter.grammars) is not None and grammars.drafts is not None:
            self.state.bring_drafts(grammars.drafts, k)
            return
        self.drafter.propose(rows, k, mode, spans)
        if self._outboxes:
            front, (slots, group) = self._inboxes[self.front], self._placed
            self._outboxes[group % len(self._outboxes)].post(front, rows, k, group)
            front.begin(slots, group, drafted=True)

    def verify(self, rows: int, k: int, mode: Mode, spans: list[Span] | None = None) -> None:
        """Queues the target's part of a round, for a bucket of rows."""
        if self.drafter.grammars is not None and len(self.lanes) == 1:
            self.verifier.verify_masked(self.graphs, rows, k, mode)
            return
        self.verifier.bring_masks(self.drafting_state(self.drafter.group).read_drafts, k)
        step = partial(self._verify, rows=rows, k=k, mode=mode)
        self.graphs.run(("verify", rows, k, mode), step, self.front.lane, spans)

    def _verify(self, capture: Capture, rows: int, k: int, mode: Mode) -> None:
        if k and self._outboxes:
            self._inboxes[self.front].place_drafts(rows, k)
        self.verifier.verify(capture, rows, k, mode)

    def post_outcome(self, slots: Sequence[int], rows: int, k: int, group: int) -> None:
        """Queues the copies of a round's outcome to the lanes that will begin the group's next one."""
        beginning = dict.fromkeys([self.drafting_state(group), self.front]) if k else [self.front]
        for state in beginning if self._inboxes else ():
            self._inboxes[state].post_outcome(slots, rows, group)

    def read_outcome(self, rows: int, k: int) -> Tensor:
        """Queues the copy of a round's outcome to the host.  # int64 [rows, FIELDS + k + 1]"""
        outcome = self.state.outcome[:rows, : FIELDS + k + 1]
        return self.state.lane.run(lambda: queue_copy_to_host(outcome))

    def read_outcome_of(self, group: int, rows: int, k: int) -> Tensor:
        """As read_outcome, into memory of the group's: it is read before the round after the next one is launched."""
        if group not in self._on_host:
            like = self.state.outcome
            self._on_host[group] = [
                torch.empty(like.shape, dtype=like.dtype, pin_memory=like.is_cuda) for _ in range(2)
            ]
        here = self._on_host[group]
        here.reverse()
        self.state.lane.run(partial(here[0][:rows].copy_, self.state.outcome[:rows], non_blocking=True))
        return here[0][:rows, : FIELDS + k + 1]

    def evict(self, slot: int) -> None:
        """Takes a slot and its pages back."""
        self.target_pool.evict(slot)
        self.drafter.evict(slot)
        for inbox in self._inboxes.values():
            inbox.evict(slot)

    def settle(self) -> None:
        """Every lane knows what the last round of each group did, and none is in flight: rows may change their groups."""
        for inbox in self._inboxes.values():
            inbox.settle()

    def drop_outcomes(self, group: int) -> None:
        """What the group's last round did counts for nothing: it was a dummy run."""
        for inbox in self._inboxes.values():
            inbox.drop(group)
