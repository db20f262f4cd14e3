"""Tokens a second of placements, simulated event by event from step times that one GPU gave.

Every lane does what is queued in its order; a group's next round waits for the outcome of the one before; the host launches rounds in turn and
takes in the oldest, one round late a group. Copies between GPUs take HOP, and a GPU that never waits is slower by SUSTAINED. Nothing joins: rows are as many at the end as at the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specbatch.engine.pipeline import HOP, SUSTAINED, RoundTimes

_HOST = 0.5e-3  # seconds of the host for a round
_ROUNDS = 400
_COLUMNS = (
    "placement",
    "GPUs",
    "rows",
    "k",
    "groups",
    "tokens/s simulated",
    "by formula",
    "over one group",
    "over as many replicas",
    "busy",
)


@dataclass(frozen=True, slots=True)
class Placement:
    """stages: GPUs of the target; drafter: those that one drafter's layers are spread over, 0 where it shares the target's only one; drafters: so many, for the groups in turn."""

    name: str
    stages: int
    drafter: int
    drafters: int = 1

    @property
    def gpus(self) -> int:
        """In all."""
        return self.stages + self.drafter * self.drafters


PLACEMENTS = (
    Placement("same", 1, 0),
    Placement("separate", 1, 1),
    Placement("target in 2, alone", 2, 0),
    Placement("2:1", 2, 1),
    Placement("3:1", 3, 1),
    Placement("2:2, two drafters", 2, 1, 2),
    Placement("6:1", 6, 1),
    Placement("6:2 in stages", 6, 2),
    Placement("6:2, two drafters", 6, 1, 2),
)


def simulate(
    times: RoundTimes, groups: int, *, together: bool = False, host: float = _HOST
) -> tuple[float, list[float]]:
    """Seconds between the ends of two rounds, and the share of the time that each lane is busy, the drafter's first.

    Args:
        times: of a round of one group.
        groups: in flight.
        together: everything on one GPU.
        host: seconds of the host for a round.
    """
    drafts = len(times.drafter)
    lanes = [0.0] * (drafts * times.drafters + len(times.target))  # when each is free
    busy = [0.0] * len(lanes)
    host_free = 0.0
    ended: list[list[float]] = [[] for _ in range(groups)]
    finished: list[float] = []
    one = 0.0  # when the only GPU is free
    for number in range(_ROUNDS * groups):
        group = number % groups
        before = ended[group]
        taken_in = before[-2] if len(before) > 1 else 0.0  # the host has seen the round before the last
        host_free = at = max(host_free, taken_in) + host
        at = max(at, before[-1] + HOP if before else 0.0)
        first = group % times.drafters * drafts  # of its drafter's lanes
        tokens = times.k if drafts > 1 else 1  # in stages each token comes back to the first one
        path = [(first + lane, seconds / tokens) for _ in range(tokens) for lane, seconds in enumerate(times.drafter)]
        path += enumerate(times.target, drafts * times.drafters)
        for lane, seconds in path:
            if not seconds:
                continue
            begin = max(at, one) if together else max(at, lanes[lane])
            lanes[lane] = one = begin + seconds
            busy[lane] += seconds
            at = lanes[lane] + (0.0 if together else HOP)
        ended[group].append(at)
        finished.append(at)
    skipped = len(finished) // 4
    seconds = (finished[-1] - finished[skipped - 1]) / (len(finished) - skipped)
    at_work = [each / len(finished) for each in busy]  # a round
    seconds = max(seconds, (1.0 if together else SUSTAINED) * max(at_work))
    return seconds, [each / seconds for each in at_work]


def merged(stages: Sequence[float], count: int) -> tuple[float, ...]:
    """Neighbouring stages as fewer."""
    assert len(stages) % count == 0, f"{len(stages)} stages were measured, which do not make {count}"
    each = len(stages) // count
    return tuple(sum(stages[at : at + each]) for at in range(0, len(stages), each))


def measured_times(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], RoundTimes]:
    """By rows and k, of the lines that had one group on several lanes, in most stages. The drafter's lane is the last."""
    most = max(line["stages"] for line in lines if line["busy"] and line["groups"] == 1 and line["apart"])
    found = {}
    for line in lines:
        if line["busy"] and line["groups"] == 1 and line["stages"] == most and line["apart"]:
            *stages, draft = (each / 1e3 for each in line["busy"])
            found[line["rows"], line["k"]] = RoundTimes((draft,), tuple(stages), line["k"])
    return found


def print_placements(lines: Sequence[Mapping[str, Any]], acceptance: float) -> None:
    """The best number of groups and k of each placement, for all numbers of rows that the measured ones make."""
    times = measured_times(lines)
    sizes = sorted({rows for rows, _ in times})
    print("\n| " + " | ".join(_COLUMNS) + " |\n" + "|---" * len(_COLUMNS) + "|")
    single = {rows: best(times, PLACEMENTS[0], rows, 1, acceptance) for rows in sizes}
    for placement in PLACEMENTS:
        for rows in sizes:
            one = best(times, placement, rows, 1, acceptance)
            found = [
                best(times, placement, rows // m, m, acceptance)
                for m in range(1, 9)
                if rows % m == 0 and rows // m in sizes
            ]
            top = max(found, key=lambda each: each[0])
            parts = rows // placement.gpus
            replicas = placement.gpus * single[parts][0] if rows % placement.gpus == 0 and parts in single else None
            over = "-" if replicas is None else f"{top[0] / replicas:.2f}"
            shares = " ".join(f"{share:.0%}" for share in top[4])
            cells = [placement.name, placement.gpus, rows, top[1], top[2], f"{top[0]:,.0f}", f"{top[3]:,.0f}"]
            print("| " + " | ".join(map(str, [*cells, f"{top[0] / one[0]:.2f}", over, shares])) + " |")


def best(
    times: Mapping[tuple[int, int], RoundTimes], placement: Placement, rows: int, groups: int, acceptance: float
) -> tuple[float, int, int, float, list[float]]:
    """Tokens/s with so many groups of so many rows at the best k, that k, groups, the same by the formula, and busy shares."""
    found = []
    for (measured_rows, k), each in times.items():
        if measured_rows != rows or (k and placement.stages > 1 and not placement.drafter):
            continue
        tokens = rows * sum(acceptance**j for j in range(k + 1))
        parts = max(1, placement.drafter)  # a drafter's layers are alike: each part takes as long
        draft = tuple(seconds / parts for seconds in each.drafter * parts) if k else ()
        spread = RoundTimes(draft, merged(each.target, placement.stages), k, drafters=placement.drafters)
        together = placement.gpus == 1
        seconds, busy = simulate(spread, groups, together=together)
        formula = sum(spread.drafter) + sum(spread.target) if together else spread.interval(groups)
        found.append((tokens / seconds, k, groups, tokens / formula, busy))
    return max(found, key=lambda line: line[0])
