"""What a controller's choices would take on a device with an H100's prices, as the fast path runs them: a round behind."""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from functools import cache

import numpy as np

from specbatch.engine.graphs.sizes import buckets, most_drafts
from specbatch.engine.speculation.controller import Choice, RoundReport
from specbatch.engine.speculation.round_costs import RoundCosts

MAX_K = 8
PROMPT = 128
CHUNK = 4096  # tokens that join at once while most slots are taken
INGEST = 4.7e-6  # seconds a token
GROWTH = 1 / 12_000  # of it, a token more before that one
TARGET_KV, DRAFTER_KV = 144 * 1024 / 3e12, 112 * 1024 / 3e12  # seconds that a token of context takes to be read
LOOK = 1e-3  # the device waits so long where the host must see a round before it queues the next


@cache
def seconds(rows, k):
    """Of a round: Qwen3-8B and 1.7B, drafts at a time of a row, and a verify forward that is free while it is small."""
    plain = np.interp(rows, (1, 8, 32, 128, 512), (5.6, 5.9, 6.8, 8.3, 18.0))
    draft = np.interp(rows, (1, 32, 128, 512), (1.6, 2.1, 2.9, 5.0))
    verify = 0.012 if rows * (k + 1) <= 512 else 0.02
    return float(plain + verify * rows * k + draft * k) / 1000


def in_context(rows, k, prompt):
    """With the KV of longer prompts to be read: by the target once a round, by the drafter once a draft."""
    return seconds(rows, k) + rows * (prompt - PROMPT) * (TARGET_KV + k * DRAFTER_KV)


def costs(slots):
    sizes = buckets(slots)
    table = {(n, k): seconds(n, k) for n in sizes for k in range(most_drafts(n, MAX_K) + 1)}
    found = RoundCosts(table, INGEST, sizes)
    found.catch_up_growth, found.draft_seconds_per_token, found.timed_context = GROWTH, DRAFTER_KV, PROMPT
    return found


class Fixed:
    def __init__(self, k):
        self.k = k

    def choose(self, rows, lag, remaining):
        return Choice(self.k, rows)

    def observe(self, report):
        pass


@dataclass
class _Round:
    k: int
    slots: np.ndarray
    rows: np.ndarray  # which ones sat there
    accepted: np.ndarray
    report: RoundReport


class Device:
    """Plays a run. `lag` and `remaining` are as the host knows them, `ahead` what rounds in flight may still add.

    Args:
        controller: chooses.
        slots: rows at once.
        rate: chance that a draft stands when those before it do.
        lengths: tokens that each row gets.
        seed: of the drafts' luck.
        prompt: tokens of each row; beyond PROMPT their KV makes rounds longer, see in_context.
    """

    def __init__(self, controller, slots, rate, lengths, seed=0, prompt=PROMPT):
        self.controller, self.rate, self.waiting = controller, rate, deque(enumerate(lengths))
        self.prompt, self.ingest = prompt, INGEST * (1 + GROWTH * (prompt - PROMPT) / 2)
        self.sizes, self.random = buckets(slots), np.random.default_rng(seed)
        self.row = np.full(slots, -1)
        self.remaining, self.ahead, self.lag = np.zeros((3, slots), dtype=int)
        self.fresh = np.zeros(slots, dtype=bool)
        self.flights = deque()
        self.seconds, self.joined, self.started = 0.0, 0, False
        self.rounds = []  # (k, rows, standing) of each

    def run(self):
        """Seconds until every row has its tokens."""
        while self.waiting or self.flights or (self.row >= 0).any():
            self._refill()
            there = np.flatnonzero((self.row >= 0) & (self.remaining > np.minimum(len(self.flights), self.ahead)))
            if self.flights and (self.remaining[there] <= self.ahead[there]).all():
                there = there[:0]
            if len(there):
                self._launch(there)
            if self.flights and (len(self.flights) > 1 or not len(there)):
                self._land()
        return self.seconds

    def _refill(self):
        free = np.flatnonzero(self.row < 0)
        taken = len(self.row) - len(free)
        few = len(free) <= len(self.row) // 16 and len(free) * self.prompt < CHUNK // 2
        if taken and few and len(self.waiting) > len(free):
            return
        count = min(len(free), len(self.waiting), max(1, CHUNK // self.prompt) if taken > len(free) else len(free))
        for slot in free[:count]:
            self.row[slot], self.remaining[slot] = self.waiting.popleft()
            self.lag[slot], self.ahead[slot], self.fresh[slot] = self.prompt, 0, False
        self.joined += count * self.prompt if taken and self.started else 0

    def _launch(self, there):
        lag = np.where(self.fresh, 0, self.lag)[there]
        k, few = self.controller.choose(len(there), int(lag.sum()), int(self.remaining[there].sum()))
        slots = there[np.argsort(lag, kind="stable")[:few]]
        size = self.sizes[bisect_left(self.sizes, len(slots))]
        k = min(k, most_drafts(size, MAX_K))
        if not isinstance(self.controller, Fixed):
            k = min(k, int((self.remaining[slots] - (self.ahead[slots] > 0)).max()) - 1)
        catch_up = 0.0
        if k:
            if (self.ahead[slots] * ~self.fresh[slots]).any():
                self._drain()
                return
            catch_up = self.ingest * int((self.lag[slots] * ~self.fresh[slots]).sum())
            self.fresh[slots] = True
        else:
            self.fresh[slots] = False
        spent, standing = in_context(size, k, self.prompt), len(there) - len(slots)
        self.seconds += catch_up + spent
        self.ahead[slots] += k + 1
        accepted = (self.random.random((len(slots), k)) < self.rate).cumprod(1).sum(1).astype(int)
        told = RoundReport(len(slots), k, spent, (), (), catch_up, k, standing, self.joined)
        self.joined = 0
        self.rounds.append((k, len(slots), standing))
        self.flights.append(_Round(k, slots, self.row[slots], accepted, told))
        if standing:
            self._drain()

    def _drain(self):
        while self.flights:
            self._land()
        self.seconds += LOOK

    def _land(self):
        flight = self.flights.popleft()
        here = self.row[flight.slots] == flight.rows  # the others have ended
        slots, accepted, k = flight.slots[here], flight.accepted[here], flight.k
        self.ahead[slots] -= k + 1
        if not len(slots):
            return
        kept = np.minimum(accepted + 1, self.remaining[slots])
        self.remaining[slots] -= kept
        self.lag[slots] = 1 if k else self.lag[slots] + kept
        if not isinstance(self.controller, Fixed):
            self._tell(flight, slots, accepted)
        ended = slots[self.remaining[slots] == 0]
        self.started |= len(ended) > 0
        self.row[ended] = -1

    def _tell(self, flight, slots, accepted):
        told, k = flight.report, flight.k
        # How many rows had so many drafts accepted, or more.
        at_least = np.bincount(accepted, minlength=k + 1)[::-1].cumsum()[::-1].tolist()
        self.controller.observe(
            RoundReport(
                len(slots),
                k,
                told.seconds,
                at_least[:k],
                at_least[1:],
                told.catch_up_seconds,
                k,
                told.standing,
                told.joined,
            )
        )
