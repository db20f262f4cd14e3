"""The predicted ceiling: what memory bandwidth and arithmetic allow, in tokens a second.

    E   = b * (1 + a + ... + a^k)                      tokens a round of b rows commits, a the acceptance rate
    T   = max((weights + kv * b * length) / bandwidth, 2 * params * tokens / flops)       one stage, one forward
    T_v = the sum of T over the target's stages, for k + 1 tokens a row;  T_d = k * the same for the drafter, 1 token a row
    X   = m * E / max(T_v + T_d, m * the busiest device's share of it)           m micro-batches of b = rows / m in flight

So with one micro-batch in flight (m = 1) X = E / (T_v + T_d) wherever the models are; with two, a drafter on a GPU
of its own gives E / max(T_v, T_d); and a target split over G GPUs gains nothing from them until m reaches G.
"""

from __future__ import annotations

from dataclasses import dataclass

from specbatch.plan.model_shape import LayerShape, ModelShape
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.types import Ceiling, GpuShape, ModelPlacement, ReplicaPlan


def predict(request: PlanRequest, replica: ReplicaPlan, rows: int, *, replicas: int = 1) -> Ceiling:
    """The ceiling of so many equal replicas together.

    Args:
        request: for the shapes of models and GPUs (nominal figures give a nominal ceiling, measured ones a measured one), k, and what
            is assumed of acceptance and lengths. Drafts of an n-gram drafter, which has no shape, cost nothing.
        replica: one of them.
        rows: in flight in one replica.
        replicas: how many.
    """
    target, *drafter = [_costs(*model, request) for model in zip(request.models.values(), replica.models, strict=True)]

    def rate(k: int, in_flight: int = 1) -> float:
        batch = rows / in_flight
        busy = dict.fromkeys(replica.devices, 0.0)  # seconds of each device in a round
        for stage in target:
            busy[stage.device] += stage.seconds(batch, k + 1, request.mean_length)
        for stage in drafter[0] if drafter and k else ():
            busy[stage.device] += k * stage.seconds(batch, 1, request.mean_length)
        seconds = max(sum(busy.values()), in_flight * max(busy.values()))
        return rows * tokens_per_round(request.acceptance_rate, k) / seconds

    choices, most_in_flight = request.speculation.choices, min(len(replica.devices), rows)
    best_k = max(choices, key=rate)
    return Ceiling(
        tokens_per_second=replicas * rate(best_k),
        pipelined_tokens_per_second=replicas * max(rate(k, m) for k in choices for m in range(1, most_in_flight + 1)),
        target_only=replicas * rate(0),
        num_speculative_tokens=best_k,
        acceptance_rate=request.acceptance_rate,
        mean_length=request.mean_length,
    )


def tokens_per_round(acceptance_rate: float, k: int) -> float:
    """Tokens that a round commits for one row, on average: 1 + a + ... + a^k."""
    return sum(acceptance_rate**j for j in range(k + 1))


@dataclass(frozen=True, slots=True)
class _StageCost:
    """What a forward of one stage reads and computes."""

    device: str
    gpu: GpuShape
    shape: ModelShape
    layers: LayerShape
    head: int  # parameters of the head; 0 where it is elsewhere

    def seconds(self, rows: float, tokens_per_row: int, mean_length: int) -> float:
        """Of a forward of so many tokens for each row, with so many in its cache."""
        shape, tokens = self.shape, rows * tokens_per_row
        touched = round(tokens * shape.experts_per_token)  # as many different experts as the tokens ask for
        weights = (shape.active_params(self.layers, touched) + self.head) * shape.dtype_bytes
        cache = self.layers.kv * shape.dtype_bytes * rows * mean_length
        params = shape.active_params(self.layers, shape.experts_per_token) + self.head
        return max((weights + cache) / self.gpu.bandwidth, 2 * params * tokens / self.gpu.flops)


def _costs(shape: ModelShape, placement: ModelPlacement, request: PlanRequest) -> list[_StageCost]:
    return [
        _StageCost(
            device=stage.device,
            gpu=request.gpus[stage.device],
            shape=shape,
            layers=shape.span(stage.first_layer, stage.num_layers),
            head=shape.head if stage.has_head else 0,
        )
        for stage in placement.stages
    ]
