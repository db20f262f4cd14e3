"""The predicted ceiling: what memory bandwidth and arithmetic allow, in tokens a second.

    E   = b * (1 + a + ... + a^k)                      tokens a round of b rows commits, a the acceptance rate
    T   = max((weights + kv * b * length) / bandwidth, 2 * params * tokens / flops)       one stage, one forward
    T_v = the sum of T over the target's stages, for k + 1 tokens a row;  T_d = k * the same for the drafter, 1 token a row
    C   = T_v + T_d + 25 us for each move to another device                     the cycle of one group of rows: a micro-batch
    X   = m * E / max(C, m * the busiest device's part of it)                   m groups of b = rows / m in flight

So with one group in flight X = E / C wherever the models are; with two, a drafter on a GPU of its own gives E / max(T_v, T_d); and a
target split over G GPUs gains nothing from them until m reaches G. Each group reads the weights for itself: m is no larger than pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from specbatch.plan.model_shape import ModelShape
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.predicted import Ceiling
from specbatch.plan.types import ModelPlacement, ReplicaPlan, Stage

MOVE_SECONDS = 25e-6  # of hidden states between two GPUs of one host, and to begin there: measured over NVLink


@dataclass(frozen=True, slots=True)
class Visit:
    """What one device does in a round of a group of rows."""

    device: str
    drafting: bool
    seconds: float


def predict(request: PlanRequest, replica: ReplicaPlan, rows: int, *, replicas: int = 1) -> Ceiling:
    """The ceiling of so many equal replicas together.

    Args:
        request: for the shapes of models and GPUs (nominal figures give a nominal ceiling, measured ones a measured one), k, and what
            is assumed of acceptance and lengths. Drafts of an n-gram drafter, which has no shape, cost nothing.
        replica: one of them.
        rows: at once in one replica.
        replicas: how many.
    """

    def rate(k: int, groups: int) -> float:
        visits = visits_of_round(request, replica, rows / groups, k)
        busy = dict.fromkeys(replica.devices, 0.0)
        for visit in visits:
            busy[visit.device] += visit.seconds
        seconds = max(_cycle_seconds(visits), groups * max(busy.values()))
        return rows * tokens_per_round(request.acceptance_rate, k) / seconds

    choices, most_groups = request.speculation.choices, min(len(replica.devices), rows)
    rates = {(k, groups): rate(k, groups) for groups in range(1, most_groups + 1) for k in choices}
    best_k = max(choices, key=lambda k: rates[k, 1])
    k, groups = max(rates, key=lambda one: rates[one])
    return Ceiling(
        tokens_per_second=replicas * rates[best_k, 1],
        pipelined_tokens_per_second=replicas * rates[k, groups],
        pipelined_groups=groups,
        pipelined_k=k,
        target_only=replicas * (rates.get((0, 1)) or rate(0, 1)),
        num_speculative_tokens=best_k,
        acceptance_rate=request.acceptance_rate,
        mean_length=request.mean_length,
    )


def visits_of_round(request: PlanRequest, replica: ReplicaPlan, rows: float, k: int) -> list[Visit]:
    """What the devices do one after the other for a round of so many rows: k drafts, then the verification."""

    def through(shape: ModelShape, placement: ModelPlacement, tokens: int, *, drafting: bool) -> list[Visit]:
        return [
            Visit(stage.device, drafting, _seconds(shape, stage, request, rows, tokens)) for stage in placement.stages
        ]

    drafts = []
    if request.drafter and replica.drafter and k:
        drafts = k * through(request.drafter, replica.drafter, 1, drafting=True)
    return drafts + through(request.target, replica.target, k + 1, drafting=False)


def _cycle_seconds(visits: Sequence[Visit]) -> float:
    """From the begin of a round to that of the next, where no device is busy with anything else."""
    moves = sum(before.device != after.device for before, after in pairwise([visits[-1], *visits]))
    return sum(visit.seconds for visit in visits) + MOVE_SECONDS * moves


def tokens_per_round(acceptance_rate: float, k: int) -> float:
    """Tokens that a round commits for one row, on average: 1 + a + ... + a^k."""
    return sum(acceptance_rate**j for j in range(k + 1))


def _seconds(shape: ModelShape, stage: Stage, request: PlanRequest, rows: float, tokens_per_row: int) -> float:
    """What a stage takes for a forward of so many tokens for each row."""
    gpu, tokens = request.gpus[stage.device], rows * tokens_per_row
    layers, head = shape.span(stage.first_layer, stage.num_layers), shape.head if stage.has_head else 0
    touched = round(tokens * shape.experts_per_token)  # as many different experts as the tokens ask for
    weights = (shape.active_params(layers, touched) + head) * shape.dtype_bytes
    cache = layers.kv * shape.dtype_bytes * rows * request.mean_length
    params = shape.active_params(layers, shape.experts_per_token) + head
    return max((weights + cache) / gpu.bandwidth, 2 * params * tokens / gpu.flops)
