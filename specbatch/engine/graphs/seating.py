"""Which rows have a seat, which wait for one, and the pages that they need: rows come, grow, are put back, and leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from specbatch.engine.general.batch import Row
from specbatch.engine.graphs.flight import Mark, Seat, mark
from specbatch.engine.graphs.machine import Machine
from specbatch.engine.request import Request
from specbatch.engine.stats import EngineStats

_FEW_SEATS = 16  # a sixteenth of the seats free: worth a prefill


class Seating:
    """The rows of an engine.

    waiting: rows without a seat, in their order
    seats: rows that decode
    prefills: moments around what was prefilled since they were last taken away, and whether it was the drafter's
    joined: tokens of rows that took others' seats since they were last taken away

    Args:
        machine: without rows.
        stats: of the engine.
        waiting: rows that wait already.
    """

    def __init__(self, machine: Machine, stats: EngineStats, waiting: deque[Row]) -> None:
        self.machine = machine
        self.stats = stats
        self.waiting = waiting
        self.seats: list[Seat] = []
        self.prefills: list[tuple[Mark, Mark, bool]] = []
        self.joined = 0

    def __bool__(self) -> bool:
        """Whether there is any row."""
        return bool(self.seats or self.waiting)

    def refill(self, source: Iterator[Request]) -> None:
        """Rows that wait take the free seats, and their prompts are prefilled; not a few tokens at a time."""
        machine = self.machine
        free = machine.slots - len(self.seats)
        exhausted = False
        with self.stats.timed("idle"):
            while len(self.waiting) < free and not exhausted:
                request = next(source, None)
                exhausted = request is None
                if request is not None:
                    self.waiting.append(self._admit(request))
        if not (free and self.waiting):
            return
        chunk = machine.config.gpu_prefill_chunk
        tokens = sum(row.length for row in self.waiting)
        few = tokens < chunk // 2 and free <= machine.slots // _FEW_SEATS
        if few and self.seats and not exhausted:
            return
        # While many rows decode, one forward's worth at a time: they must not wait for a whole batch of long prompts.
        budget = chunk if len(self.seats) > machine.slots // 2 else tokens + 1
        room = machine.target_pool.free - len(self.seats)  # a page more for every row that is there already
        joining: list[Row] = []
        for row in islice(self.waiting, free):
            budget -= row.length
            room -= machine.pages_to_join(row)
            if (joining and budget < 0) or (room < 0 and (joining or self.seats)):
                break
            joining.append(row)
        if joining:
            self._join(joining)

    def leave(self, seat: Seat) -> None:
        """A row gives up its seat and its pages."""
        seat.gone = True
        self.seats.remove(seat)
        self.machine.leave(seat.slot)
        self.stats.active = len(self.seats)

    def everyone_out(self) -> deque[Row]:
        """Empties the seats; returns the rows that had one, and those that wait, in their order."""
        rows = deque(seat.row for seat in self.seats)
        for seat in list(self.seats):
            self.leave(seat)
        rows.extend(self.waiting)
        self.waiting.clear()
        self.prefills.clear()  # of rows that are gone: no round will tell of them
        self.joined = 0
        return rows

    def grow(self, seats: Sequence[Seat], k: int) -> bool:
        """Gives rows the pages of the target that a round of k drafts may write; False where there are not enough."""
        return self.machine.target_pool.grow_all([(seat.slot, seat.reach(k)) for seat in seats])

    def put_back(self, k: int) -> None:
        """Takes their seats from the rows that joined last, until the others can have a round of k drafts. None is in flight."""
        pool = self.machine.target_pool
        while len(self.seats) > 1 and sum(pool.missing(seat.slot, seat.reach(k)) for seat in self.seats) > pool.free:
            last = self.seats[-1]  # it has the least to lose
            self.waiting.appendleft(last.row)
            self.leave(last)

    def grow_drafter(self, seats: Sequence[Seat], k: int) -> bool:
        """Gives rows the pages of the drafter that a round of k drafts may write; False where there are not enough."""
        pool = self.machine.drafter_pool
        assert pool is not None, "a model drafts"
        return pool.grow_all([(seat.slot, seat.reach(k)) for seat in seats])

    def catch_up(self, seats: Sequence[Seat]) -> None:
        """The drafter takes in what it has not seen of rows, which have the pages, and none of which lags with a round in flight."""
        machine = self.machine
        lagging = [seat for seat in seats if not seat.fresh]
        if not lagging:
            return
        start = mark(machine.device)
        machine.catch_up([(seat.slot, seat.seen, seat.row.length) for seat in lagging])
        self.prefills.append((start, mark(machine.device), True))
        for seat in lagging:
            seat.seen, seat.fresh = seat.row.length, True

    def _join(self, rows: list[Row]) -> None:
        machine = self.machine
        if self.seats and self.stats.finished:
            self.joined += sum(row.length for row in rows)
        start = mark(machine.device)
        slots = machine.join(rows)
        self.prefills.append((start, mark(machine.device), False))
        for row, slot in zip(rows, slots, strict=True):
            self.waiting.popleft()  # only now: running out of memory in the prefill loses no row
            self.seats.append(Seat(row, slot))
        self.stats.active = len(self.seats)

    def _admit(self, request: Request) -> Row:
        prompt, new, longest = len(request.prompt_token_ids), request.max_new_tokens, self.machine.config.max_length
        assert prompt > 0, f"row {request.id}: an empty prompt"
        assert new > 0, f"row {request.id}: no new tokens asked for"
        assert prompt + new <= longest, f"row {request.id}: {prompt} + {new} tokens > max_length"
        self.stats.prompt_tokens += prompt
        return Row(request)
