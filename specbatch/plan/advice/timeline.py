"""The time line of a cycle: which GPU does what, with as many groups of rows in flight as pay. Predicted, from the times of the ceiling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from specbatch.plan.ceiling import HOST_SECONDS, MOVE_SECONDS, Visit, tokens_per_round, visits_of_round
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.predicted import Ceiling, Lane, Span, Timeline
from specbatch.plan.types import ReplicaPlan

_ROUNDS = 24  # of each group: in the second half what the devices do repeats, more or less
_CHARS = 60


def timeline_of(request: PlanRequest, replica: ReplicaPlan, rows: int, ceiling: Ceiling) -> Timeline | None:
    """A cycle of one replica with so many rows; None where it has one device, which is always busy."""
    groups, k = ceiling.groups, ceiling.num_speculative_tokens
    if len(replica.devices) == 1:
        return None
    visits = visits_of_round(request, replica, rows / groups, k)
    spans, starts = simulate(visits, groups, _ROUNDS)
    cycles = list(pairwise(starts[_ROUNDS // 2 :]))
    seconds = (cycles[-1][1] - cycles[0][0]) / len(cycles)
    begin, end = min(cycles, key=lambda cycle: abs(cycle[1] - cycle[0] - seconds))
    lanes = []
    for device in replica.devices:
        within = [
            Span(span.group, span.drafting, max(span.start, begin) - begin, min(span.end, end) - begin)
            for where, span in spans
            if where == device and span.start < end and span.end > begin
        ]
        lanes.append(Lane(device, tuple(within), busy=sum(span.end - span.start for span in within) / (end - begin)))
    return Timeline(
        seconds=end - begin,
        groups=groups,
        k=k,
        tokens_per_second=rows * tokens_per_round(request.acceptance_rate, k) / seconds,
        lanes=tuple(lanes),
    )


def simulate(visits: Sequence[Visit], groups: int, rounds: int) -> tuple[list[tuple[str, Span]], list[float]]:
    """Groups of rows whose rounds, all of the same visits, the host launches in turn: each part does them in that order, a device one thing at a time.

    Returns:
        what each device does; when the first group begins each of its rounds.
    """
    parts = [(visit.drafting, visit.part) for visit in visits]
    places = [parts[:at].count(part) for at, part in enumerate(parts)]  # among those of its part in a round
    done: Counter[tuple[bool, int, int]] = Counter()  # visits, of all rounds, by part and drafter
    free: dict[str, float] = {}

    def in_turn(round_: int, visit: Visit) -> tuple[int, int]:
        """Which of the drafters has a round, and how many rounds it had before."""
        cycles, group, drafters = round_ // groups, round_ % groups, max(1, len(visit.drafters))
        number = group % drafters
        return number, cycles * len(range(number, groups, drafters)) + group // drafters

    moves = [MOVE_SECONDS if a.device != b.device else 0.0 for a, b in pairwise([visits[-1], *visits])]
    under_way = dict.fromkeys(range(groups), (0, 0.0))  # round -> its next visit, and when that is ready
    spans: list[tuple[str, Span]] = []
    starts: list[float] = []
    host = 0.0  # when it can launch the next round
    while len(starts) < rounds:
        round_, at, start = min(
            (
                (round_, at, max(ready + moves[at], free.get(device, 0.0), host if at == 0 else 0.0))
                for round_, (at, ready) in under_way.items()
                for device in [visits[at].device_of(round_ % groups)]
                for number, before in [in_turn(round_, visits[at])]
                if done[*parts[at], number] == before * parts.count(parts[at]) + places[at]
            ),
            key=lambda one: (one[2], one[0]),
        )
        if at == 0:
            host = start + HOST_SECONDS
            starts += [start] if round_ % groups == 0 else []
        visit = visits[at]
        device = visit.device_of(round_ % groups)
        done[*parts[at], in_turn(round_, visit)[0]] += 1
        end = free[device] = start + visit.seconds
        spans.append((device, Span(round_ % groups, visit.drafting, start, end)))
        del under_way[round_]
        under_way[round_ if at + 1 < len(visits) else round_ + groups] = ((at + 1) % len(visits), end)
    return spans, starts


def draw(timeline: Timeline) -> Iterator[str]:
    """A line a device: capitals verify, small letters draft, one letter for each group of rows; dots are idle."""
    width = max(len(lane.device) for lane in timeline.lanes)
    each = timeline.seconds / _CHARS
    for lane in timeline.lanes:
        cells = "".join(_cell(lane.spans, number * each, (number + 1) * each) for number in range(_CHARS))
        yield f"{lane.device:<{width}}  {cells}  busy {lane.busy:4.0%}"


def legend(timeline: Timeline) -> str:
    """What the letters of a drawing stand for."""
    drafting = any(span.drafting for lane in timeline.lanes for span in lane.spans)
    letters = "A: the target verifies group A" + ("; a: the drafter drafts for it" if drafting else "")
    others = f"; B{' and b' if drafting else ''}: likewise of the next group" if timeline.groups > 1 else ""
    return f"{letters}{others}; dots: the GPU waits"


def _cell(spans: Sequence[Span], begin: float, end: float) -> str:
    """The letter of what takes the most of a stretch of time."""
    overlap = {span: min(span.end, end) - max(span.start, begin) for span in spans}
    most = max(overlap, key=lambda span: overlap[span], default=None)
    if most is None or overlap[most] < (end - begin) / 2:
        return "."
    letter = chr(ord("A") + most.group % 26)
    return letter.lower() if most.drafting else letter
