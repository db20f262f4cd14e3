"""What lanes tell each other between the steps of a round: drafts on their way to the target, and outcomes on their way back.

Only the lane with the target's head commits rounds. Where rounds begin elsewhere (the target's first stage, the drafter's GPU), that lane has
lines of the rows of its own, and takes in what a group's last round did when it is about to begin the group's next one: not before,
since until then the round may be under way, and a lane that waits does nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.lanes import Mailbox
from specbatch.engine.graphs.state import ACCEPTED, FIELDS, RowState


class Outcomes:
    """Brings outcomes of rounds to another lane's lines.

    Args:
        source: of the lane that commits rounds.
        state: of the other lane.
        graphs: of captured steps.
    """

    def __init__(self, source: RowState, state: RowState, graphs: CudaGraphRunner) -> None:
        self.source = source
        self.state = state
        self.graphs = graphs
        self._posted: dict[int, tuple[int, list[int]]] = {}  # by group, and not taken in yet: bucket, slots
        self._boxes: dict[int, tuple[Mailbox, Tensor]] = {}  # by group
        self._outcome = torch.zeros_like(source.outcome, device=state.device)

    def post(self, slots: Sequence[int], rows: int, group: int) -> None:
        """Queues the copy of an outcome, of a bucket of rows."""
        if group not in self._boxes:
            box = self.source.lane.mailbox(self.state.lane)
            self._boxes[group] = box, torch.empty_like(self._outcome)
        box, memory = self._boxes[group]
        box.post(self.source.outcome[:rows], memory[:rows])
        self._posted[group] = rows, list(slots)

    def drop(self, group: int) -> None:
        """The group's last outcome is not needed: the host will bring its rows anew."""
        self._posted.pop(group, None)

    def evict(self, slot: int) -> None:
        """What outcomes under way say of a slot counts for nothing: another row may have it by then."""
        for _, slots in self._posted.values():
            slots[:] = [self.state.slots if each == slot else each for each in slots]

    def take_in(self, group: int) -> None:
        """Moves the rows of the group's last round on, before its next one begins."""
        rows, slots = self._posted.pop(group, (0, []))
        if not slots:
            return
        state, (box, memory) = self.state, self._boxes[group]
        state.place(slots, group)
        with box.taken():
            state.lane.run(lambda: self._outcome[:rows].copy_(memory[:rows]))
        self.graphs.run(("take in", state.lane.number, rows), lambda _: self._apply(rows), state.lane)

    def _apply(self, rows: int) -> None:
        """As TorchOps.commit_coupled moves rows on. Columns that the round did not fill become filler."""
        state, slots = self.state, self.state.rows[:rows]
        outcome, last = self._outcome[:rows], state.lengths[slots]
        at = last[:, None] + 1 + torch.arange(state.max_k + 1, device=state.device)
        state.history.index_put_((slots[:, None], at), outcome[:, FIELDS:])
        moved = torch.minimum(outcome[:, ACCEPTED] + 1, state.ends[slots] - last)
        state.lengths.index_put_((slots,), last + moved)


def hand_over_drafts(graphs: CudaGraphRunner, source: RowState, state: RowState, rows: int, k: int) -> None:
    """Queues the copy of a round's drafts from the drafter's lines to those of the lane where the target begins."""

    def places(of: RowState) -> tuple[Tensor, Tensor]:
        slots = of.rows[:rows]
        at = of.lengths[slots][:, None] + 1 + torch.arange(k, device=of.device)
        return slots[:, None], at

    def step(capture: Capture) -> None:
        (drafts,) = capture.to_lane(state.lane, source.history[places(source)])
        state.history.index_put_(places(state), drafts)

    graphs.run(("drafts", rows, k), step, source.lane)
