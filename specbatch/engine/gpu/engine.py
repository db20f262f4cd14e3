"""The engine on a GPU: the device runs whole rounds by itself, and the host looks at each one round late.

While round i + 1 runs, the host takes in what round i did, fills the seats of rows that ended, and queues round i + 2. A row that
ended in round i rides along in round i + 1 for nothing; its tokens there are dropped, and on the device a row at its last
position stands still.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from specbatch.engine.batch import Row
from specbatch.engine.config import EngineConfig
from specbatch.engine.controller import Controller, RoundReport
from specbatch.engine.drafter import Drafter, ModelDrafter
from specbatch.engine.gpu.flight import Flight, Landing, Mark, Seat, mark, seconds_between
from specbatch.engine.gpu.machine import Machine
from specbatch.engine.gpu.sizes import bucket
from specbatch.engine.gpu.state import Mode
from specbatch.engine.gpu.warmup import warm_up
from specbatch.engine.memory import out_of_memory, release, too_little_memory
from specbatch.engine.model import CausalLM
from specbatch.engine.request import Completion, Request
from specbatch.engine.stats import EngineStats

_T = TypeVar("_T")
_FEW_SEATS = 16  # a sixteenth of the seats free: worth a prefill


class GraphEngine:
    """One target, an optional drafter, and the rows they are decoding; see Engine, whose interface this is.

    Args:
        target: that packing.why_not finds nothing against.
        drafter: a ModelDrafter of the same kind, an NGramDrafter, or None.
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
        self._waiting: deque[Row] = deque()
        self._seats: list[Seat] = []
        self._flights: deque[Flight] = deque()
        self._ended: list[Completion] = []
        self._prefills: list[tuple[Mark, Mark, bool]] = []
        self._looked = 0.0  # when the host last took in a round
        self._idle = 0.0  # stats.seconds["idle"] then
        self._allocate(self.config.max_sequences)

    def warmup(self, say: Callable[[str], None] | None = None) -> None:
        """Records the rounds and measures what they cost. Called by the first generate() if not before.

        Args:
            say: told how far it is.
        """
        if self.machine.warm:
            return
        start = time.perf_counter()
        controller = None
        while controller is None:  # None: memory ran out, and there are half as many seats now
            controller = self._within_memory(lambda: warm_up(self.machine, say or (lambda _: None)))
        self.controller = self.controller or controller
        self.stats.warmup_seconds += time.perf_counter() - start

    @torch.inference_mode()
    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Decodes the requests, yielding each completion as its row ends; see Engine.generate."""
        self.warmup()
        source = iter(requests)
        self._looked, self._idle = time.perf_counter(), self.stats.seconds["idle"]
        try:
            while True:
                self._within_memory(lambda: self._step(source))
                ended, self._ended = self._ended, []
                yield from ended
                if not (ended or self._seats or self._flights or self._waiting):
                    return
        finally:  # a caller that stops early leaves no rows behind
            self._flights.clear()
            for seat in list(self._seats):
                self._leave(seat)
            self._waiting.clear()
            self._ended.clear()

    def _step(self, source: Iterator[Request]) -> None:
        """Gives the device its next round, then takes in the one before."""
        self._refill(source)
        seats = self._undecided()
        if seats:
            self._launch(seats)
        if self._flights and (len(self._flights) > 1 or not seats):
            self._land()

    def _undecided(self) -> list[Seat]:
        """The rows for the next round: not those that surely end in flight, and none if all may: a look costs less than a round."""
        in_flight = len(self._flights)
        seats = [seat for seat in self._seats if seat.row.remaining > min(in_flight, seat.ahead)]
        if in_flight and all(seat.row.remaining <= seat.ahead for seat in seats):
            return []
        return seats

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def _launch(self, seats: list[Seat]) -> None:
        """Queues a round for the seats; or nothing, where rounds in flight had to land first."""
        machine = self.machine
        assert self.controller is not None, "warmup() before a round"
        rows = bucket(machine.buckets, len(seats))
        lag = sum(seat.row.length - seat.seen for seat in seats if not seat.fresh) if machine.drafts_with_model else 0
        k = min(self.controller.choose(len(seats), lag), machine.most_drafts(rows))
        k = min(k, max(seat.row.remaining - (seat.ahead > 0) for seat in seats) - 1)  # no drafts beyond all rows' ends
        if k and machine.drafts_with_model:
            caught_up = self._catch_up(seats, k)
            if caught_up is None:
                return
            k = k if caught_up else 0
        if not self._make_room(seats, k):
            return
        mode = Mode.of({seat.row.request.sampling for seat in seats})
        started = mark(machine.device)
        machine.seat([seat.slot for seat in seats])
        machine.draft(rows, k, mode)
        drafted = mark(machine.device)
        machine.verify(rows, k, mode)
        outcome = machine.read_outcome(len(seats), k)
        landed = mark(machine.device)
        for seat in seats:
            seat.ahead += k + 1
            seat.fresh = seat.fresh and k > 0
        prefills, self._prefills = self._prefills, []
        self._flights.append(
            Flight(k, seats, outcome, started, drafted, landed, self.controller.plain_seconds, prefills)
        )

    def _land(self) -> None:
        """Takes in what the oldest round in flight did: tokens, counts, what the controller learns."""
        flight, stats = self._flights.popleft(), self.stats
        landing = flight.wait()
        for seat in flight.seats:
            seat.ahead -= flight.k + 1
        seconds = landing.draft_seconds + landing.verify_seconds
        catch_up = 0.0
        for start, end, of_drafter in flight.prefills:
            spent = seconds_between(start, end)
            stats.seconds["prefill"] += spent
            seconds_of_drafter = spent if of_drafter else 0.0
            catch_up += seconds_of_drafter
        stats.catch_up_seconds += catch_up
        stats.seconds["draft"] += landing.draft_seconds
        stats.seconds["verify"] += landing.verify_seconds
        if landing.seats:
            self._count(flight, landing, seconds, catch_up)
        self._count_host(seconds + sum(seconds_between(start, end) for start, end, _ in flight.prefills))

    def _count(self, flight: Flight, landing: Landing, seconds: float, catch_up: float) -> None:
        assert self.controller is not None, "warmup() before a round"
        k, stats, rows = flight.k, self.stats, len(landing.seats)
        stood = landing.stood(k)
        self.controller.observe(
            RoundReport(rows, k, seconds, landing.reached(k), stood, catch_up, max(landing.drafted))
        )
        stats.count_round(k, landing.drafted, landing.accepted, stood)
        emitted = stats.emitted
        self._give_tokens(flight, landing)
        stats.count_plain(stats.emitted - emitted, rows, flight.plain_seconds if k else seconds)

    def _give_tokens(self, flight: Flight, landing: Landing) -> None:
        """Hands the rows their tokens; rows that end leave."""
        for i, seat in enumerate(landing.seats):
            row = seat.row
            row.rounds += 1
            row.drafted += landing.drafted[i]
            row.accepted += landing.accepted[i]
            if not landing.finite[i]:
                self._ended.append(row.complete("error", "the target's logits are not finite"))
                self.stats.failed += 1
                self._leave(seat)
                continue
            before = len(row.token_ids)
            reason = row.extend(landing.tokens[i])
            self.stats.emitted += len(row.token_ids) - before
            if flight.k:
                seat.seen = max(seat.seen, row.length - 1)
            if reason is not None:
                self._ended.append(row.complete(reason))
                self.stats.finished += 1
                self._leave(seat)

    def _count_host(self, device_seconds: float) -> None:
        """What the device did not need of the time since the last look is the host's."""
        now, idle = time.perf_counter(), self.stats.seconds["idle"]
        self.stats.seconds["host"] += max(0.0, now - self._looked - device_seconds - (idle - self._idle))
        self._looked, self._idle = now, idle

    def _drain(self) -> None:
        """Lands all rounds in flight: afterwards the host knows every row's length."""
        while self._flights:
            self._land()

    # -- rows coming and going -------------------------------------------------------------------------------------------

    def _refill(self, source: Iterator[Request]) -> None:
        """Rows that wait take the free seats, and their prompts are prefilled; not a few tokens at a time."""
        machine, stats = self.machine, self.stats
        free = machine.slots - len(self._seats)
        exhausted = False
        with stats.timed("idle"):
            while len(self._waiting) < free and not exhausted:
                request = next(source, None)
                exhausted = request is None
                if request is not None:
                    self._waiting.append(self._admit(request))
        if not (free and self._waiting):
            return
        chunk = self.config.gpu_prefill_chunk
        tokens = sum(row.length for row in self._waiting)
        few = tokens < chunk // 2 and free <= machine.slots // _FEW_SEATS
        if few and self._seats and not exhausted:
            return
        # While many rows decode, one forward's worth at a time: they must not wait for a whole batch of long prompts.
        budget = chunk if len(self._seats) > machine.slots // 2 else sum(row.length for row in self._waiting) + 1
        joining: list[Row] = []
        for row in list(self._waiting)[:free]:
            if (joining and budget < row.length) or not self._fits(row, joining):
                break
            budget -= row.length
            joining.append(row)
        if joining:
            self._join(joining)

    def _fits(self, row: Row, joining: list[Row]) -> bool:
        """Whether there are pages for the row, and one more for every row that is there already."""
        machine = self.machine
        rows = [*joining, row]
        needed = sum(machine.pages_to_join(row) for row in rows)
        return needed + len(self._seats) <= machine.target_pool.free or not (self._seats or joining)

    def _join(self, rows: list[Row]) -> None:
        machine = self.machine
        start = mark(machine.device)
        slots = machine.join(rows)
        self._prefills.append((start, mark(machine.device), False))
        for row, slot in zip(rows, slots, strict=True):
            self._waiting.popleft()  # only now: running out of memory in the prefill loses no row
            self._seats.append(Seat(row, slot))
        self.stats.active = len(self._seats)

    def _admit(self, request: Request) -> Row:
        prompt, new = len(request.prompt_token_ids), request.max_new_tokens
        assert prompt > 0, f"row {request.id}: an empty prompt"
        assert new > 0, f"row {request.id}: no new tokens asked for"
        assert prompt + new <= self.config.max_length, f"row {request.id}: {prompt} + {new} tokens > max_length"
        self.stats.prompt_tokens += prompt
        return Row(request)

    def _leave(self, seat: Seat) -> None:
        seat.gone = True
        self._seats.remove(seat)
        self.machine.leave(seat.slot)
        self.stats.active = len(self._seats)

    # -- memory ----------------------------------------------------------------------------------------------------------

    def _catch_up(self, seats: list[Seat], k: int) -> bool | None:
        """The drafter takes in what it has not seen. False: it has no pages for that; None: rounds in flight had to land first."""
        machine = self.machine
        pool = machine.drafter_pool
        assert pool is not None, "a model drafts"
        if sum(pool.missing(seat.slot, seat.reach(k)) for seat in seats) > pool.free:
            return False
        lagging = [seat for seat in seats if not seat.fresh]
        if any(seat.ahead for seat in lagging):
            self._drain()
            return None
        for seat in seats:
            pool.grow(seat.slot, seat.reach(k))
        if not lagging:
            return True
        start = mark(machine.device)
        machine.ingest([(seat.slot, seat.seen, seat.row.length) for seat in lagging])
        self._prefills.append((start, mark(machine.device), True))
        for seat in lagging:
            seat.seen, seat.fresh = seat.row.length, True
        return True

    def _make_room(self, seats: list[Seat], k: int) -> bool:
        """Gives every row the pages that the round may write. False: rows had to be put back, and the round must be made up anew."""
        pool = self.machine.target_pool
        if sum(pool.missing(seat.slot, seat.reach(k)) for seat in seats) <= pool.free:
            for seat in seats:
                pool.grow(seat.slot, seat.reach(k))
            return True
        self._drain()
        while len(self._seats) > 1 and sum(pool.missing(seat.slot, seat.reach(k)) for seat in self._seats) > pool.free:
            last = self._seats[-1]  # it has the least to lose
            self._waiting.appendleft(last.row)
            self._leave(last)
        return False

    def _allocate(self, slots: int) -> None:
        model = self.drafter.model if isinstance(self.drafter, ModelDrafter) else None
        other = None if model is not None else self.drafter
        self.machine = Machine(self.target, model, other, self.config, slots)
        self.stats.max_sequences = slots

    def _within_memory(self, step: Callable[[], _T]) -> _T | None:
        """Runs a step; when memory runs out, halves the seats instead and returns None. No row is lost."""
        try:
            return step()
        except RuntimeError as error:
            reason = out_of_memory(error)
        # Outside of the handler: its traceback would keep the step's tensors alive.
        slots = self.machine.slots
        if slots == 1:
            raise too_little_memory(self.config.max_length, reason)
        self._flights.clear()  # what they did is done again, to the same tokens
        self._waiting.extendleft(seat.row for seat in reversed(self._seats))
        self._seats.clear()
        self._prefills.clear()
        del self.machine
        release(self.target.input_device)
        self._allocate(slots // 2)
        self.warmup()
        return None
