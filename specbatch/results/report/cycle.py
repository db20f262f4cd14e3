"""The figure of a cycle: what each GPU of a placement over several does for which group of rows, from the times measured in the run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specbatch.formatting import format_percent
from specbatch.plan.environment import drafters_of
from specbatch.results.report.facts import RunFacts
from specbatch.results.report.figures import COLOURS, Chart, row_height

_ROUND_PHASES = ("draft", "verify", "accept")
_NOISE = 0.05  # of an interval, in sums of shares
_LETTERED = 0.05  # of the cycle: a narrower bar has no room for a letter
_AXIS_INCHES = 0.5


@dataclass(frozen=True, slots=True)
class Lane:
    """What one GPU does.

    Attributes:
        device: its name.
        drafting: else it verifies.
        begin: in the round of a group, in seconds; below 0 and beyond the cycle it is the group before or after.
        seconds: at work for a round, on average of all groups'.
        number, of: of so many drafters, which have the groups in turn, it is on this one's.
    """

    device: str
    drafting: bool
    begin: float
    seconds: float
    number: int = 0
    of: int = 1

    @property
    def of_own(self) -> float:
        """Seconds at work for a round of its own groups."""
        return self.seconds * self.of


@dataclass(frozen=True, slots=True)
class Cycle:
    """A cycle, in which each group of rows goes through one round.

    Attributes:
        interval: seconds between the ends of two rounds, on average.
        groups: in flight.
        lanes: of one replica, the drafter's first.
        replicas: like this one.
    """

    interval: float
    groups: int
    lanes: tuple[Lane, ...]
    replicas: int

    def bars(self, lane: Lane) -> Iterator[tuple[int, float, float]]:
        """Group, begin and seconds of what a lane does in a cycle; what reaches beyond its end is at its beginning."""
        end = self.groups * self.interval
        for group in range(lane.number, self.groups, lane.of):
            begin = (lane.begin + group * self.interval) % end
            yield group, begin, min(lane.of_own, end - begin)
            if begin + lane.of_own > end:
                yield group, 0.0, begin + lane.of_own - end


def cycle_of(facts: RunFacts) -> Cycle | str:
    """The mean round of the run, with its groups spaced evenly; or why there is none."""
    summary = facts.summary
    busy = summary.device_busy
    if not busy or not summary.rounds:
        return "each replica had one device, which Where the time went is about, or no round was timed device by device"
    env = facts.manifests[0].env if facts.manifests else {}
    replicas = [group.split(",") for group in env.get("TARGET_GPU", "").split(";") if group]
    drafters = drafters_of(env) if summary.drafted else []
    if not replicas:
        return "the placement is recorded when a run ends"
    interval = sum(summary.phase_seconds.get(phase, 0.0) for phase in _ROUND_PHASES) / summary.rounds
    lanes, begin = [], 0.0
    for number, devices in enumerate(drafters):
        at = 0.0
        for device in (one for one in devices if one not in replicas[0]):
            lanes.append(Lane(device, True, at, busy.get(device, 0.0) * interval, number, len(drafters)))
            at += lanes[-1].of_own
        begin = max(begin, at)
    for device in replicas[0]:
        lanes.append(Lane(device, False, begin, busy.get(device, 0.0) * interval))
        begin += lanes[-1].seconds
    # The number that most rounds had; more work than one interval holds was of more groups.
    at_least = math.ceil(begin / interval - _NOISE) if interval else 1
    return Cycle(interval, max(1, summary.micro_batches, at_least), tuple(lanes), len(replicas))


def cycle_chart(facts: RunFacts) -> Chart | str:
    """Bars by GPU, and the share of the time that each is at work."""
    cycle = cycle_of(facts)
    if isinstance(cycle, str):
        return cycle
    end = cycle.groups * cycle.interval

    def draw(axes: Any) -> None:
        for place, lane in enumerate(cycle.lanes):
            for group, begin, seconds in cycle.bars(lane):
                colour = COLOURS["second" if lane.drafting else "accent"]
                axes.barh(
                    place, 1e3 * seconds, left=1e3 * begin, height=0.62, color=colour, alpha=0.9 if group % 2 else 0.6
                )
                if seconds > _LETTERED * end and cycle.groups > 1:
                    axes.annotate(
                        chr(ord("A") + group % 26), (1e3 * (begin + seconds / 2), place), ha="center", va="center"
                    )
            axes.annotate(
                format_percent(lane.seconds / cycle.interval), (1, place), (4, 0), va="center",
                xycoords=("axes fraction", "data"), textcoords="offset points",
            )  # fmt: skip
        names = [f"{lane.device} {'drafts' if lane.drafting else 'verifies'}" for lane in cycle.lanes]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1e3 * end)
        axes.set_xlabel("ms of a cycle of rounds")
        axes.grid(visible=False)
        axes.tick_params(axis="y", labelcolor=COLOURS["ink"])

    busy = ", ".join(f"{lane.device} {format_percent(lane.seconds / cycle.interval)}" for lane in cycle.lanes)
    groups = "one group of rows was" if cycle.groups == 1 else f"{cycle.groups} groups of rows were"
    of = "" if cycle.replicas == 1 else f", in the first of {cycle.replicas} replicas"
    caption = (
        f"At work between the ends of rounds{of}: {busy}. {groups.capitalize()} in flight, and a round ended every {1e3 * cycle.interval:.1f} ms. "
        "Means of the rounds that were timed, prefill not counted; the groups are drawn as if evenly spaced."
    )
    return Chart("cycle", "What each GPU does", caption, draw, _AXIS_INCHES + row_height(len(cycle.lanes)))
