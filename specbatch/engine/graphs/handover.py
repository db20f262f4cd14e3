"""What a lane is told before a group's next round: which rows it has, what their last round did, and what was drafted for them.

Only the lane with the target's head commits rounds. Where rounds begin elsewhere (the target's first stage, the drafter's GPU), that lane has
lines of the rows of its own, and takes in what a group's last round did when it is about to begin the group's next one: not before,
since until then the round may be under way, and a lane that waits does nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbatch.engine.graphs.cuda_graphs import CudaGraphRunner
from specbatch.engine.graphs.lanes import Lane, Mailbox
from specbatch.engine.graphs.state import RowState
from specbatch.engine.host_copies import upload
from specbatch.engine.queued_round import ACCEPTED, FIELDS


class _Told:
    """What one group's next round will be told, and the mailboxes by which it comes.

    slots: of the rows that `rows` has
    outcome_of: bucket and slots of the last round, whose outcome was posted and is not taken in
    """

    def __init__(self, inbox: Inbox, group: int) -> None:
        self.memory = torch.zeros_like(inbox.memory)
        self.rows, self.outcome, self.drafts = inbox.parts(self.memory)
        self.outcomes = inbox.source.lane.mailbox(inbox.lane)
        drafters = inbox.drafters
        self.drafted = drafters[group % len(drafters)].mailbox(inbox.lane) if drafters else None
        self.slots: list[int] | None = None
        self.outcome_of: tuple[int, list[int]] | None = None


class Inbox:
    """The rows of a lane's rounds, and what other lanes tell it of them: by group, all brought by one copy as the group's next round begins.

    Args:
        state: the rows' lines on the lane; its `rows` become those that are told.
        source: on the lane that commits rounds; the same where that is this one.
        drafters: the lanes that draft, for the groups in turn, where drafts come from others.
        graphs: of captured steps.
        groups: of rows, at the most. Their memory is made here: what is made later would be filled beside what the lanes do.
    """

    def __init__(
        self, state: RowState, source: RowState, drafters: Sequence[Lane], graphs: CudaGraphRunner, groups: int
    ) -> None:
        self.state = state
        self.source = source
        self.drafters = drafters
        self.graphs = graphs
        self.lane = state.lane
        self._width = FIELDS + state.max_k + 1 if source is not state else 0
        size = state.slots * (1 + self._width + (state.max_k if drafters else 0))
        self.memory = torch.zeros(size, dtype=torch.int64, device=state.device)
        self.rows, self._outcome, self.drafts = self.parts(self.memory)
        self.rows.fill_(state.slots)
        state.rows = self.rows
        self._groups: list[_Told] = []
        for group in range(groups):
            self._groups.append(_Told(self, group))

    def parts(self, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Memory as slots of the rows, outcome and drafts by place.  # int64 [slots], [slots, width], [up to slots * max_k]"""
        rows, width = self.state.slots, self._width
        return memory[:rows], memory[rows : rows * (1 + width)].view(rows, width), memory[rows * (1 + width) :]

    # -- told by other lanes -------------------------------------------------------------------------------------------

    def post_outcome(self, slots: Sequence[int], rows: int, group: int) -> None:
        """Queues the copy of an outcome, of a bucket of rows, where it is another lane's."""
        if self._width:
            told = self._groups[group]
            told.outcomes.post(self.source.outcome[:rows], told.outcome[:rows])
            told.outcome_of = rows, list(slots)

    def post_drafts(self, drafts: Tensor, group: int) -> None:
        """Queues the copy of drafts.  # int64 [B * k], on the drafter's lane"""
        told = self._groups[group]
        assert told.drafted is not None, "drafts of another lane"
        told.drafted.post(drafts, told.drafts[: len(drafts)])

    def drop(self, group: int) -> None:
        """The group's last outcome is not needed: the host will bring its rows anew."""
        self._groups[group].outcome_of = None

    def evict(self, slot: int) -> None:
        """What outcomes under way say of a slot counts for nothing: another row may have it by then."""
        for told in self._groups:
            if told.outcome_of is not None and slot in told.outcome_of[1]:
                rows, slots = told.outcome_of
                told.outcome_of = rows, [self.state.slots if each == slot else each for each in slots]

    # -- the lane's own ------------------------------------------------------------------------------------------------

    def begin(self, slots: Sequence[int], group: int, *, drafted: bool = False) -> None:
        """Moves the group's rows on by their last round, and sets the rows of the next one.

        Args:
            slots: of the rows.
            group: theirs.
            drafted: whether drafts for them were posted.
        """
        told, slots = self._groups[group], list(slots)
        boxes = [told.drafted] if drafted and told.drafted is not None else []
        if told.outcome_of is not None:
            moved = self._take_in(told, boxes)
            if moved != slots:
                self._set_rows(told, slots)
                self._bring(told.rows, self.rows, [])
            return
        self._set_rows(told, slots)
        if boxes:
            self._bring(told.memory, self.memory, boxes)
        else:
            self._bring(told.rows, self.rows, [])

    def settle(self) -> None:
        """Moves the rows of all groups on by their last rounds: they may be dealt out to other groups."""
        for told in self._groups:
            if told.outcome_of is not None:
                self._take_in(told, [])

    def _take_in(self, told: _Told, boxes: Sequence[Mailbox]) -> list[int]:
        """Moves rows on by their group's last round; returns their slots."""
        assert told.outcome_of is not None, "see begin"
        (rows, moved), told.outcome_of = told.outcome_of, None
        self._set_rows(told, moved)
        self._bring(told.memory, self.memory, [told.outcomes, *boxes])
        self.graphs.run(("take in", self.lane.number, rows), lambda _: self._apply(rows), self.lane)
        return moved

    def place_drafts(self, rows: int, k: int) -> None:
        """A part of a step: the drafts stand in the history, behind the rows' tokens."""
        state, slots = self.state, self.rows[:rows]
        at = state.lengths[slots][:, None] + 1 + torch.arange(k, device=state.device)
        state.history.index_put_((slots[:, None], at), self.drafts[: rows * k].view(rows, k))

    def _set_rows(self, told: _Told, slots: list[int]) -> None:
        if told.slots == slots:
            return
        told.slots = list(slots)
        padded = [*slots, *[self.state.slots] * (self.state.slots - len(slots))]
        self.lane.run(lambda: told.rows.copy_(upload(padded, torch.int64, self.state.device), non_blocking=True))

    def _bring(self, told: Tensor, here: Tensor, boxes: Sequence[Mailbox]) -> None:
        for box in boxes:
            box.take()
        self.lane.run(lambda: here.copy_(told, non_blocking=True))
        for box in boxes:
            box.release()

    def _apply(self, rows: int) -> None:
        """As TorchOps.commit_coupled moves rows on. Columns that the round did not fill become filler."""
        state, slots = self.state, self.rows[:rows]
        outcome, last = self._outcome[:rows], state.lengths[slots]
        at = last[:, None] + 1 + torch.arange(state.max_k + 1, device=state.device)
        state.history.index_put_((slots[:, None], at), outcome[:, FIELDS:])
        moved = torch.minimum(outcome[:, ACCEPTED] + 1, state.ends[slots] - last)
        state.lengths.index_put_((slots,), last + moved)


class Outbox:
    """Drafts on their way from the drafter's lane to where the target begins.

    Args:
        state: of the lane that drafts.
        graphs: of captured steps.
    """

    def __init__(self, state: RowState, graphs: CudaGraphRunner) -> None:
        self.state = state
        self.graphs = graphs
        self._drafts = torch.zeros(state.slots * state.max_k, dtype=torch.int64, device=state.device)

    def post(self, inbox: Inbox, rows: int, k: int, group: int) -> None:
        """Queues the copy of a round's drafts, of a bucket of rows."""
        self.graphs.run(("drafts", self.state.lane.number, rows, k), lambda _: self._gather(rows, k), self.state.lane)
        inbox.post_drafts(self._drafts[: rows * k], group)

    def _gather(self, rows: int, k: int) -> None:
        state, slots = self.state, self.state.rows[:rows]
        at = state.lengths[slots][:, None] + 1 + torch.arange(k, device=state.device)
        self._drafts[: rows * k].view(rows, k).copy_(state.history[slots[:, None], at])
