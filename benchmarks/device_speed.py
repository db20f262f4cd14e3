"""What a GPU can do, by its data sheet and measured, and the tokens a second that this allows.

    E    = B * (1 + a + ... + a^k)                                                tokens a round of B rows commits
    T_v  = max((weights + kv * B * length) / bandwidth, 2 * params * B * (k + 1) / flops)
    T_d  = k * the same for the drafter, one token a row
    weights: of a mixture of experts, of those that the tokens of a forward go to, see Shape.read_params
    time = prefill of both models + new tokens / (E / (T_v + T_d)),   prefill = max(weights / bandwidth, 2 * params * tokens / flops)

The formula of specbatch/plan/ceiling.py with one round in flight, and prefill; written out here because specbatch.plan needs pydantic.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.inputs.synthetic import Shape
from benchmarks.inputs.synthetic_int4 import GROUP
from benchmarks.inputs.workloads import Rows

_NOMINAL = {"H200": (4.8e12, 989e12), "H100": (3.35e12, 989e12), "A100": (2.04e12, 312e12)}
_MAX_K = 8


@dataclass(frozen=True, slots=True)
class Speed:
    """Bytes and operations a second."""

    bandwidth: float
    flops: float


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Tokens a second, prefill included, and the k that gives them."""

    tokens_per_second: float
    k: int


def nominal(name: str) -> Speed | None:
    """By the data sheet; None where the device is not known."""
    return next((Speed(*figures) for part, figures in _NOMINAL.items() if part in name), None)


def measured(device: torch.device) -> Speed:
    """A copy within the memory, and a product of two square bfloat16 matrices: the best of a few."""
    large = device.type == "cuda"
    source = torch.empty((1 << 31) if large else (1 << 24), dtype=torch.uint8, device=device)
    copy = torch.empty_like(source)
    size = 8192 if large else 256
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    product = torch.empty_like(a)
    copying = _best_seconds(lambda: copy.copy_(source), device)
    multiplying = _best_seconds(lambda: torch.mm(a, b, out=product), device)
    return Speed(2 * source.numel() / copying, 2 * size**3 / multiplying)


def ceiling(
    speed: Speed,
    target: Shape,
    drafter: Shape | None,
    rows: Rows,
    acceptance: float,
    k: int | None,
    number_bytes: int = 2,
) -> Ceiling:
    """What the device allows for these rows.

    Args:
        speed: of the device.
        target: its shape.
        drafter: its shape; None: the target alone.
        rows: what is decoded.
        acceptance: of each draft, given that those before it were accepted.
        k: tokens drafted a round; None: the best of 0..8.
        number_bytes: of a number of weights and KV that are floating point.
    """
    choices = [0] if drafter is None else [k] if k is not None else list(range(_MAX_K + 1))
    found = []
    for choice in choices:
        seconds = _prefill(speed, target, rows, number_bytes)
        round_seconds = _forward(speed, target, rows, choice + 1, number_bytes)
        if drafter is not None and choice:
            seconds += _prefill(speed, drafter, rows, number_bytes)
            round_seconds += choice * _forward(speed, drafter, rows, 1, number_bytes)
        committed = rows.at_once * sum(acceptance**j for j in range(choice + 1))
        seconds += rows.new_total * round_seconds / committed
        found.append(Ceiling(rows.new_total / seconds, choice))
    return max(found, key=lambda ceiling: ceiling.tokens_per_second)


def _forward(speed: Speed, shape: Shape, rows: Rows, tokens_a_row: int, number_bytes: int) -> float:
    params = shape.body_params + shape.head_params
    read = _body_bytes(shape, rows.at_once * tokens_a_row, number_bytes)
    read += number_bytes * shape.head_params + rows.at_once * shape.read_kv(rows.mean_length, number_bytes)
    return max(read / speed.bandwidth, 2 * params * rows.at_once * tokens_a_row / speed.flops)


def _body_bytes(shape: Shape, tokens: int, number_bytes: int) -> float:
    """What a forward of so many tokens reads but for the head."""
    return shape.read_params(tokens) * {"fp8": 1.0, "int4": (4 + 32 / GROUP) / 8}.get(shape.stored, number_bytes)


def _prefill(speed: Speed, shape: Shape, rows: Rows, number_bytes: int) -> float:
    """The head runs on the last token of a prompt alone."""
    return max(
        _body_bytes(shape, rows.prompt_total, number_bytes) / speed.bandwidth,
        2 * shape.body_params * rows.prompt_total / speed.flops,
    )


def _best_seconds(step: Callable[[], object], device: torch.device, repeats: int = 8) -> float:
    step()
    best = float("inf")
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        step()
        wait(device)
        best = min(best, time.perf_counter() - start)
    return best


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked to; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
