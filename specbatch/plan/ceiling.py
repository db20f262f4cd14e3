"""The predicted ceiling: what memory bandwidth, arithmetic and, over several GPUs, the host allow, in tokens a second.

    E   = b * (1 + a + ... + a^k)                      tokens a round of b rows commits, a the acceptance rate
    T   = max((weights + kv * b * length) / bandwidth, 2 * params * tokens / flops)       one stage, one forward
    T_v = the sum of T over the target's stages, for k + 1 tokens a row;  T_d = k * the same for the drafter, 1 token a row
    C   = T_v + T_d + 25 us for each move to another device                     the cycle of one group of rows: a micro-batch
    X   = m * E / max(C, m * the longest that a round holds a part, m * 1 ms)         m groups of b = rows / m in flight

Of a mixture of experts, weights are those of the experts that the tokens of a forward go to: of E experts, k of them a token, E * (1 - (1 - k / E)^tokens).

So with one group in flight X = E / C wherever the models are; with two, a drafter on a GPU of its own gives E / max(T_v, T_d); and a
target split over G GPUs gains nothing from them until m reaches G. Each group reads the weights for itself: m is no larger than pays. The last
bound is the host's, which launches the rounds of all groups in turn.

Each stage, and a head that is not on the last one, is given its work round after round, in the order in which the host launches it: from its first to its
last work of a round it is held, though it may wait in between. So a drafter in stages, each of which waits for the others' token, is held for nearly all of its
drafts; and no device is at work for two parts at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.predicted import Ceiling
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.types import GpuShape, ModelPlacement, ReplicaPlan, Stage

MOVE_SECONDS = 25e-6  # of hidden states between two GPUs of one host, and to begin there: measured over NVLink
HOST_SECONDS = 1e-3  # of the host for a round over several GPUs: two took 0.4 to 0.7 ms for up to 256 rows, 1.2 for 512
_AS_GOOD = 0.98  # of the most tokens a second: of equals the fewest groups, as engine/pipeline.py takes them
_WORTH_GROUPS = 1.05  # times one group's, likewise


@dataclass(frozen=True, slots=True)
class Visit:
    """What one device does in a round of a group of rows.

    Attributes:
        device: its name.
        drafting: else it verifies.
        seconds: at work.
        part: of the model there, a stage or its head, by number: what queues behind each other.
        drafters: the devices where each of several drafters has this part, in the place of `device`: they have the groups in turn.
    """

    device: str
    drafting: bool
    seconds: float
    part: int = 0
    drafters: tuple[str, ...] = ()

    def device_of(self, group: int) -> str:
        """Where it is in the rounds of a group."""
        return self.drafters[group % len(self.drafters)] if self.drafters else self.device


def predict(request: PlanRequest, replica: ReplicaPlan, rows: int, *, replicas: int = 1) -> Ceiling:
    """The ceiling of so many equal replicas together.

    Args:
        request: for the shapes of models and GPUs (nominal figures give a nominal ceiling, measured ones a measured one), k, and what
            is assumed of acceptance and lengths. Drafts of an n-gram drafter, which has no shape, cost nothing.
        replica: one of them.
        rows: at once in one replica.
        replicas: how many.
    """
    choices = request.speculation.choices
    rates: dict[tuple[int, int], float] = {}
    most = 0.0
    for groups in _choices_of_groups(request, replica, rows):
        for k, visits in _rounds(request, replica, rows / groups, {0, *request.speculation.choices_for(rows / groups)}):
            tokens = rows * tokens_per_round(request.acceptance_rate, k)
            rates[groups, k] = replicas * tokens / cycle_seconds(visits, groups)
        best = max(rates[groups, k] for k in choices if (groups, k) in rates)
        most = max(most, best)
        if best < _AS_GOOD * most and groups % max(1, len(replica.drafters)) == 0:
            break  # some part is held all the time: more groups only read the weights more often
    groups, k = _fewest_groups(rates, choices)
    return Ceiling(
        tokens_per_second=rates[groups, k],
        num_speculative_tokens=k,
        groups=groups,
        one_group=max((rates[1, k] for k in choices if (1, k) in rates), default=None),
        target_only=rates[_fewest_groups(rates, [0])],
        acceptance_rate=request.acceptance_rate,
        mean_length=request.mean_length,
    )


def predict_all(request: PlanRequest, replicas: Sequence[ReplicaPlan], rows: int) -> Ceiling:
    """The ceiling of replicas together, each with so many rows at once; k and groups are those of the first."""
    kinds: dict[tuple[GpuShape, ...], list[ReplicaPlan]] = {}
    for replica in replicas:
        kinds.setdefault(tuple(request.gpus[device] for device in replica.devices), []).append(replica)
    first, *others = (predict(request, alike[0], rows, replicas=len(alike)) for alike in kinds.values())
    together = [first, *others]
    return replace(
        first,
        tokens_per_second=sum(one.tokens_per_second for one in together),
        target_only=sum(one.target_only for one in together),
        one_group=first.one_group and sum(one.one_group or 0.0 for one in together),
    )


def _fewest_groups(rates: Mapping[tuple[int, int], float], ks: Sequence[int]) -> tuple[int, int]:
    """Groups and k that are as good as any."""
    most = max(rate for (_, k), rate in rates.items() if k in ks)
    one = max((rate for (groups, k), rate in rates.items() if k in ks and groups == 1), default=0.0)
    enough = one if most < _WORTH_GROUPS * one else _AS_GOOD * most
    groups = min(groups for (groups, k), rate in rates.items() if k in ks and rate >= enough)
    return groups, max((k for k in ks if (groups, k) in rates), key=lambda k: rates[groups, k])


def _choices_of_groups(request: PlanRequest, replica: ReplicaPlan, rows: int) -> Sequence[int]:
    """Groups of rows in flight that the engine chooses among: one more than there are devices keeps all of them busy."""
    devices = len(replica.devices)
    if devices == 1 or not request.is_paged:
        return [1]
    return [min(request.groups, rows)] if request.groups else range(1, min(devices + 1, rows) + 1)


def visits_of_round(request: PlanRequest, replica: ReplicaPlan, rows: float, k: int) -> list[Visit]:
    """What the devices do one after the other for a round of so many rows: k drafts, then the verification."""
    return next(visits for _, visits in _rounds(request, replica, rows, {k}))


def _rounds(request: PlanRequest, replica: ReplicaPlan, rows: float, ks: set[int]) -> Iterator[tuple[int, list[Visit]]]:
    """Each k with the visits of its round."""

    def through(shape: ModelShape, placement: ModelPlacement, tokens: int, *, drafting: bool) -> list[Visit]:
        slowdown = request.slowdown.get("drafter" if drafting else "target", 1.0)
        *_, last = placement.stages
        parts = [(stage, stage.num_layers, stage.has_head and stage is last) for stage in placement.stages]
        parts += [(stage, 0, True) for stage in placement.stages[:-1] if stage.has_head]  # after all layers
        return [
            Visit(
                stage.device,
                drafting,
                slowdown * _seconds(shape, stage, request, rows, tokens, layers, head=head),
                part,
            )
            for part, (stage, layers, head) in enumerate(parts)
        ]

    draft: list[Visit] = []
    if request.drafter and replica.drafter:
        each = [through(request.drafter, placed, 1, drafting=True) for placed in replica.drafters]
        slowest = max(each, key=lambda visits: sum(visit.seconds for visit in visits))
        devices = zip(*([visit.device for visit in visits] for visits in each), strict=True)
        draft = each[0]
        if len(each) > 1:
            draft = [replace(visit, drafters=where) for visit, where in zip(slowest, devices, strict=True)]
    for k in sorted(ks):
        yield k, k * draft + through(request.target, replica.target, k + 1, drafting=False)


def cycle_seconds(visits: Sequence[Visit], groups: int) -> float:
    """In which each of so many groups goes through a round of these visits."""
    begin: dict[tuple[bool, int], float] = {}
    end: dict[tuple[bool, int], float] = {}
    drafters = max(1, *(len(visit.drafters) for visit in visits))
    busy: dict[str, float] = {}  # of the cycle
    now = 0.0
    for before, visit in pairwise([visits[-1], *visits]):
        now += MOVE_SECONDS if before.device != visit.device else 0.0
        begin.setdefault((visit.drafting, visit.part), now)
        now += visit.seconds
        end[visit.drafting, visit.part] = now
        for group in range(groups) if visit.drafters else ():
            busy[visit.device_of(group)] = busy.get(visit.device_of(group), 0.0) + visit.seconds
        if not visit.drafters:
            busy[visit.device] = busy.get(visit.device, 0.0) + groups * visit.seconds
    # A drafter has no more groups than its share of them.
    held = max((-(-groups // drafters) if part[0] else groups) * (end[part] - begin[part]) for part in begin)
    return max(now, held, *busy.values(), groups * HOST_SECONDS if len(busy) > 1 else 0.0)


def tokens_per_round(acceptance_rate: float, k: int) -> float:
    """Tokens that a round commits for one row, on average: 1 + a + ... + a^k."""
    return sum(acceptance_rate**j for j in range(k + 1))


def _seconds(
    shape: ModelShape, stage: Stage, request: PlanRequest, rows: float, tokens_per_row: int, count: int, *, head: bool
) -> float:
    """What so many layers of a stage take for a forward of so many tokens for each row, and the head."""
    gpu, tokens = request.gpus[stage.device], rows * tokens_per_row
    layers, of_head = shape.span(stage.first_layer, count), shape.head if head else 0
    weights = shape.read_bytes(shape.active_params(layers, shape.different_experts(tokens)), of_head)
    cache = int(shape.read_kv(stage.first_layer, count, request.mean_length) * shape.kv_number_bytes) * rows
    params = shape.active_params(layers, shape.experts_per_token) + of_head
    return max((weights + cache) / gpu.bandwidth, 2 * params * tokens / gpu.flops)
