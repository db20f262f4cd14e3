"""The predicted ceiling: what memory bandwidth and arithmetic allow, in tokens a second.

    E   = b * (1 + a + ... + a^k)                      tokens a round of b rows commits, a the acceptance rate
    T   = max((weights + kv * b * length) / bandwidth, 2 * params * tokens / flops)       one stage, one forward
    T_v = the sum of T over the target's stages, for k + 1 tokens a row;  T_d = k * the same for the drafter, 1 token a row
    X   = m * E / max(T_v + T_d, m * the busiest device's share of it)           m micro-batches of b = rows / m in flight

So with one micro-batch in flight (m = 1) X = E / (T_v + T_d) wherever the models are; with two, a drafter on a GPU
of its own gives E / max(T_v, T_d); and a target split over G GPUs gains nothing from them until m reaches G.
"""

from __future__ import annotations

from specbatch.plan.model_shape import ModelShape
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.types import Ceiling, ReplicaPlan, Stage


def predict(request: PlanRequest, replica: ReplicaPlan, rows: int, *, replicas: int = 1) -> Ceiling:
    """The ceiling of so many equal replicas together.

    Args:
        request: for the shapes of models and GPUs (nominal figures give a nominal ceiling, measured ones a measured one), k, and what
            is assumed of acceptance and lengths. Drafts of an n-gram drafter, which has no shape, cost nothing.
        replica: one of them.
        rows: in flight in one replica.
        replicas: how many.
    """

    def rate(k: int, in_flight: int = 1) -> float:
        batch = rows / in_flight
        busy = dict.fromkeys(replica.devices, 0.0)  # seconds of each device in a round
        for stage in replica.target.stages:
            busy[stage.device] += _seconds(request.target, stage, request, batch, k + 1)
        if request.drafter and replica.drafter and k:
            for stage in replica.drafter.stages:
                busy[stage.device] += k * _seconds(request.drafter, stage, request, batch, 1)
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


def _seconds(shape: ModelShape, stage: Stage, request: PlanRequest, rows: float, tokens_per_row: int) -> float:
    """What a stage takes for a forward of so many tokens for each row."""
    gpu, tokens = request.gpus[stage.device], rows * tokens_per_row
    layers, head = shape.span(stage.first_layer, stage.num_layers), shape.head if stage.has_head else 0
    touched = round(tokens * shape.experts_per_token)  # as many different experts as the tokens ask for
    weights = (shape.active_params(layers, touched) + head) * shape.dtype_bytes
    cache = layers.kv * shape.dtype_bytes * rows * request.mean_length
    params = shape.active_params(layers, shape.experts_per_token) + head
    return max((weights + cache) / gpu.bandwidth, 2 * params * tokens / gpu.flops)
