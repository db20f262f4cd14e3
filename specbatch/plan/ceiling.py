"""The predicted ceiling: what memory bandwidth and arithmetic allow, in tokens a second.

    E   = b * (1 + a + ... + a^k)                      tokens a round of b rows commits, a the acceptance rate
    T   = max((weights + kv * b * length) / bandwidth, 2 * params * tokens / flops)       one stage, one forward
    T_v = the sum of T over the target's stages, for k + 1 tokens a row;  T_d = k * the same for the drafter, 1 token a row
    X   = m * E / max(T_v + T_d, m * the busiest device's share of it)           m micro-batches of b = rows / m in flight

So with one micro-batch in flight (m = 1) X = E / (T_v + T_d) wherever the models stand; with two, a drafter on a GPU
of its own gives E / max(T_v, T_d); and a target split over G GPUs gains nothing from them until m reaches G.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from specbatch.plan.devices import cpu_shape
from specbatch.plan.layers import split_layers
from specbatch.plan.placing import Group, Replica
from specbatch.plan.shape import ModelShape
from specbatch.plan.types import Ceiling, GpuShape, Plan


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a ceiling is predicted for."""

    rows: int  # in flight in one replica
    mean_length: int  # tokens in the cache of a row, on average
    acceptance_rate: float  # of each draft, given that those before it were accepted
    fixed_k: int | None = None  # None: the best of 0..max_k
    max_k: int = 8


def predict(replica: Replica, gpus: Mapping[str, GpuShape], assumed: Assumptions, *, replicas: int = 1) -> Ceiling:
    """The ceiling of so many equal replicas together.

    Args:
        replica: one of them.
        gpus: device -> its shape; nominal figures give a nominal ceiling, measured ones a measured one.
        assumed: rows, length, acceptance and k. Of an n-gram drafter (no drafter group) drafts cost nothing.
        replicas: how many.
    """
    choices = range(assumed.max_k + 1) if assumed.fixed_k is None else (assumed.fixed_k,)
    devices = len({device for group in replica.groups for device in group.devices})
    best_k = max(choices, key=lambda k: _rate(replica, gpus, assumed, k, 1))
    pipelined = max(
        _rate(replica, gpus, assumed, k, in_flight)
        for k in choices
        for in_flight in range(1, min(devices, assumed.rows) + 1)
    )
    return Ceiling(
        tokens_per_second=replicas * _rate(replica, gpus, assumed, best_k, 1),
        pipelined_tokens_per_second=replicas * pipelined,
        target_only=replicas * _rate(replica, gpus, assumed, 0, 1),
        num_speculative_tokens=best_k,
        acceptance_rate=assumed.acceptance_rate,
        mean_length=assumed.mean_length,
    )


def ceiling_of(
    plan: Plan, target: ModelShape, drafter: ModelShape | None, gpus: Sequence[GpuShape], assumed: Assumptions
) -> Ceiling:
    """The ceiling of a plan under other assumptions, such as the acceptance and lengths that a run has measured.

    Args:
        plan: the placement.
        target: the shape it was planned with.
        drafter: as above.
        gpus: as given to `make_plan`; empty for the CPU.
        assumed: what to predict for.
    """
    first = plan.replicas[0]
    devices = {f"cuda:{index}": gpu for index, gpu in enumerate(gpus)} | {"cpu": gpus[0] if gpus else cpu_shape()}
    replica = Replica(
        Group(target, first.target.devices),
        Group(drafter, first.drafter.devices) if drafter and first.drafter else None,
    )
    return predict(replica, devices, assumed, replicas=len(plan.replicas))


def tokens_a_round(acceptance_rate: float, k: int) -> float:
    """Tokens that a round commits for one row, on average: 1 + a + ... + a^k."""
    return sum(acceptance_rate**j for j in range(k + 1))


def _rate(replica: Replica, gpus: Mapping[str, GpuShape], assumed: Assumptions, k: int, in_flight: int) -> float:
    rows = assumed.rows / in_flight
    busy = dict.fromkeys(gpus, 0.0)
    for device, seconds in _forward(replica.target, gpus, rows, k + 1, assumed.mean_length):
        busy[device] += seconds
    if replica.drafter and k:
        for device, seconds in _forward(replica.drafter, gpus, rows, 1, assumed.mean_length):
            busy[device] += k * seconds
    round_seconds = max(sum(busy.values()), in_flight * max(busy.values()))
    return in_flight * rows * tokens_a_round(assumed.acceptance_rate, k) / round_seconds


def _forward(
    group: Group, gpus: Mapping[str, GpuShape], rows: float, tokens_a_row: int, mean_length: int
) -> Iterator[tuple[str, float]]:
    """(device, seconds) of each stage of one forward."""
    shape = group.shape
    tokens = rows * tokens_a_row
    experts = min(shape.num_experts, round(tokens * shape.experts_per_token))
    head_at = 0 if shape.tied else len(group.devices) - 1
    layer = 0
    for index, count in enumerate(split_layers(shape, len(group.devices))):
        gpu = gpus[group.devices[index]]
        weights = shape.span_params(layer, count, experts) * shape.dtype_bytes
        weights += shape.head_bytes if index == head_at else 0
        cache = shape.span_kv_bytes(layer, count) * rows * mean_length
        params = shape.span_params(layer, count, shape.experts_per_token)
        params += shape.head_params if index == head_at else 0
        layer += count
        yield group.devices[index], max((weights + cache) / gpu.bandwidth, 2 * params * tokens / gpu.flops)
