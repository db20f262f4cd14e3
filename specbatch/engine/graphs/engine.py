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

from specbatch.engine.config import EngineConfig
from specbatch.engine.controller import Controller, RoundReport
from specbatch.engine.general.batch import Row
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.flight import Flight, Landing, Seat, mark, seconds_between
from specbatch.engine.graphs.machine import Machine
from specbatch.engine.graphs.ops import refusing_kernels
from specbatch.engine.graphs.seating import Seating
from specbatch.engine.graphs.sizes import bucket
from specbatch.engine.graphs.state import Mode
from specbatch.engine.graphs.warmup import warm_up
from specbatch.engine.memory import out_of_memory, release, too_little_memory
from specbatch.engine.request import Completion, Request
from specbatch.engine.stats import EngineStats

_T = TypeVar("_T")


class GraphEngine:
    """One target, an optional drafter, and the rows they are decoding; see Engine, whose interface this is.

    Args:
        target: that packing.why_not finds nothing against.
        drafter: a ModelDrafter of the same kind, an NGramDrafter, or None.
        config: sizes and rules.
        controller: chooses k; made from the config and measured costs by default.

    Raises:
        OutOfMemoryError: even one row at a time does not fit.
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
        self._own_controller = controller is None
        self._flights: deque[Flight] = deque()
        self._ended: list[Completion] = []
        self._looked = 0.0  # when the host last took in a round
        self._idle = 0.0  # stats.seconds["idle"] then
        self._allocate(self.config.max_sequences, deque())

    def warmup(self, say: Callable[[str], None] | None = None) -> None:
        """Records the rounds and measures what they cost. Called by generate() if not before.

        Args:
            say: told how far it is.

        Raises:
            KernelError: a kernel does not run on this GPU; make_engine gives the general engine from now on.
        """
        start, had_been = time.perf_counter(), self.machine.warm
        while not self.machine.warm:  # again where memory ran out, and there are half as many seats now
            with refusing_kernels(self.machine.device):
                controller = self._within_memory(lambda: warm_up(self.machine, say or (lambda _: None)))
            if self._own_controller:
                self.controller = controller
        if not had_been:
            self.stats.warmup_seconds += time.perf_counter() - start

    @torch.inference_mode()
    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Decodes the requests, yielding each completion as its row ends; see Engine.generate."""
        source = iter(requests)
        self.warmup()
        self._looked, self._idle = time.perf_counter(), self.stats.seconds["idle"]
        try:
            while True:
                self._within_memory(lambda: self._step(source))
                self.warmup()
                ended, self._ended = self._ended, []
                yield from ended
                if not (ended or self._flights or self.seating):
                    return
        finally:  # a caller that stops early leaves no rows behind
            self._flights.clear()
            self._ended.clear()
            self.seating.everyone_out()

    def _step(self, source: Iterator[Request]) -> None:
        """Gives the device its next round, then takes in the one before."""
        self.seating.refill(source)
        seats = self._undecided()
        if seats:
            self._launch(seats)
        if self._flights and (len(self._flights) > 1 or not seats):
            self._land()

    def _undecided(self) -> list[Seat]:
        """The rows for the next round: not those that surely end in flight, and none if all may: a look costs less than a round."""
        in_flight = len(self._flights)
        seats = [seat for seat in self.seating.seats if seat.row.remaining > min(in_flight, seat.ahead)]
        if in_flight and all(seat.row.remaining <= seat.ahead for seat in seats):
            return []
        return seats

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def _launch(self, seats: list[Seat]) -> None:
        """Queues a round for the seats; or nothing, where rounds in flight had to land first."""
        machine, there = self.machine, len(seats)
        assert self.controller is not None, "warmup() before a round"
        k, seats = self._choose(seats)
        rows = bucket(machine.buckets, len(seats))
        if k and machine.drafts_with_model:
            if any(seat.ahead and not seat.fresh for seat in seats):
                self._drain()  # the drafter can only take in what the host knows
                return
            self.seating.catch_up(seats)
        if not self.seating.grow(seats, k):
            self._drain()
            self.seating.put_back(k)
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
        prefills, self.seating.prefills = self.seating.prefills, []
        joined, self.seating.joined = self.seating.joined, 0
        plain, standing = self.controller.plain_seconds, there - len(seats)
        self._flights.append(Flight(k, seats, outcome, started, drafted, landed, plain, prefills, standing, joined))
        if standing:
            self._drain()  # what is next hangs on what these few show

    def _choose(self, seats: list[Seat]) -> tuple[int, list[Seat]]:
        """K, and the rows to ask: of few those that the drafter knows best."""
        machine = self.machine
        assert self.controller is not None, "warmup() before a round"
        lag = sum(seat.lag for seat in seats) if machine.drafts_with_model else 0
        k, few = self.controller.choose(len(seats), lag, sum(seat.row.remaining for seat in seats))
        asked = sorted(seats, key=lambda seat: seat.lag)[:few] if few < len(seats) else seats
        k = min(k, machine.most_drafts(bucket(machine.buckets, len(asked))))
        if self.config.num_speculative_tokens is None:
            # A chosen one stops short of where all rows end: what is drafted there counts for nothing.
            k = min(k, max(seat.row.remaining - (seat.ahead > 0) for seat in asked) - 1)
        fits = not (k and machine.drafts_with_model) or self.seating.grow_drafter(asked, k)
        return (k, asked) if k and fits else (0, seats)

    def _land(self) -> None:
        """Takes in what the oldest round in flight did: tokens, counts, what the controller learns."""
        flight, stats = self._flights.popleft(), self.stats
        landing = flight.wait()
        for seat in flight.seats:
            seat.ahead -= flight.k + 1
        spent = [(seconds_between(start, end), of_drafter) for start, end, of_drafter in flight.prefills]
        prefill, catch_up = sum(each for each, _ in spent), sum(each for each, of_drafter in spent if of_drafter)
        seconds = landing.draft_seconds + landing.verify_seconds
        stats.catch_up_seconds += catch_up
        stats.seconds["prefill"] += prefill
        stats.seconds["draft"] += landing.draft_seconds
        stats.seconds["verify"] += landing.verify_seconds
        if landing.seats:
            self._count(flight, landing, seconds, catch_up)
        self._count_host(seconds + prefill)

    def _count(self, flight: Flight, landing: Landing, seconds: float, catch_up: float) -> None:
        assert self.controller is not None, "warmup() before a round"
        k, stats, rows = flight.k, self.stats, len(landing.seats)
        accepted_at, emitted = landing.accepted_at(k), stats.emitted
        verified, standing = max(landing.drafted), flight.standing
        self.controller.observe(
            RoundReport(
                rows, k, seconds, landing.proposed_at(k), accepted_at, catch_up, verified, standing, flight.joined
            )
        )
        stats.count_round(k, landing.drafted, landing.accepted, accepted_at)
        self._give_tokens(flight, landing)
        stats.count_plain(stats.emitted - emitted, rows + standing, flight.plain_seconds if k else seconds)

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
                self.seating.leave(seat)
                continue
            before = len(row.token_ids)
            reason = row.extend(landing.tokens[i])
            self.stats.emitted += len(row.token_ids) - before
            if flight.k:
                seat.seen = max(seat.seen, row.length - 1)
            if reason is not None:
                self._ended.append(row.complete(reason))
                self.stats.finished += 1
                self.seating.leave(seat)

    def _count_host(self, device_seconds: float) -> None:
        """What the device did not need of the time since the last look is the host's."""
        now, idle = time.perf_counter(), self.stats.seconds["idle"]
        self.stats.seconds["host"] += max(0.0, now - self._looked - device_seconds - (idle - self._idle))
        self._looked, self._idle = now, idle

    def _drain(self) -> None:
        """Lands all rounds in flight: afterwards the host knows every row's length."""
        while self._flights:
            self._land()

    # -- memory ----------------------------------------------------------------------------------------------------------

    def _allocate(self, slots: int, rows: deque[Row]) -> None:
        """Makes a machine of so many seats, or of as many halvings of them as it takes to fit, for rows that wait."""
        model = self.drafter.model if isinstance(self.drafter, ModelDrafter) else None
        other = None if model is not None else self.drafter
        while True:
            try:
                self.machine = Machine(self.target, model, other, self.config, slots)
                break
            except RuntimeError as error:
                reason = out_of_memory(error)
            slots = self._half(slots, reason)
            release(self.target.input_device)
        self.seating = Seating(self.machine, self.stats, rows)
        self.stats.max_sequences = slots

    def _within_memory(self, step: Callable[[], _T]) -> _T | None:
        """Runs a step; when memory runs out, halves the seats instead and returns None. No row is lost."""
        try:
            return step()
        except RuntimeError as error:
            reason = out_of_memory(error)
        # Outside of the handler: its traceback would keep the step's tensors alive.
        slots = self._half(self.machine.slots, reason)
        self._flights.clear()  # what they did is done again, to the same tokens
        rows = self.seating.everyone_out()
        del self.machine, self.seating
        release(self.target.input_device)
        self._allocate(slots, rows)
        return None

    def _half(self, slots: int, reason: str) -> int:
        if slots == 1:
            raise too_little_memory(self.config.max_length, reason)
        return slots // 2
