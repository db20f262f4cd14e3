"""Jobs, shapes and GPUs for the tests of the planner."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from specbatch.api import SpecBatchJob, parse_spec
from specbatch.plan.device_map import place_model
from specbatch.plan.gpus import parse_gpus
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.planner import make_plan
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.shapes.read_shape import shape_from_config
from specbatch.plan.types import GpuShape, Plan, ReplicaPlan, Speculation

CONFIGS = Path(__file__).parent / "configs"
H100 = parse_gpus("H100")[0]


def config(name: str) -> dict:
    return json.loads((CONFIGS / f"{name}.json").read_text())


def shape(name: str) -> ModelShape:
    return shape_from_config(config(name), name)


def tiny(layers: int, *, tied: bool = False, name: str = "tiny") -> ModelShape:
    return shape_from_config(
        {
            "model_type": "llama",
            "num_hidden_layers": layers,
            "hidden_size": 64,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "vocab_size": 4096,
            "tie_word_embeddings": tied,
        },
        name,
    )


def job(gpus: int, *overrides: str, drafter: str | None = "d") -> SpecBatchJob:
    text = f"""
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata: {{name: test}}
spec:
  target: {{model: t}}
  {f"drafter: {{model: {drafter}}}" if drafter else ""}
  placement: {{gpus: {gpus}}}
  dataset: {{uri: rows.jsonl}}
"""
    return parse_spec(text, "test.yaml", overrides)


def request(
    target: ModelShape,
    drafter: ModelShape | None = None,
    *,
    gpus: Mapping[str, GpuShape] | None = None,
    max_length: int = 1024,
    k: int = 8,
) -> PlanRequest:
    """A request for a placement on two H100, or the GPUs given."""
    return PlanRequest(
        target=target,
        drafter=drafter,
        gpus=gpus or {"cuda:0": H100, "cuda:1": H100},
        max_length=max_length,
        speculation=Speculation(k, is_adaptive=True),
        min_rows=1,
        max_rows=512,
        acceptance_rate=0.8,
        mean_length=max_length // 2,
    )


def replica(target: ModelShape, *devices: str, drafter: ModelShape | None = None, on: str = "") -> ReplicaPlan:
    """The target over devices, and a drafter on one, with the KV of one token."""
    return ReplicaPlan(place_model(target, devices), place_model(drafter, [on]) if drafter else None)


def plan_of(
    gpus: str,
    *overrides: str,
    target: str = "qwen3-8b",
    drafter: str | None = "qwen3-1.7b",
    env: dict[str, str] | None = None,
    **assumed: float,
) -> Plan:
    shapes: tuple[GpuShape, ...] = parse_gpus(gpus)
    return make_plan(
        job(len(shapes), *overrides, drafter=drafter),
        shape(target),
        shape(drafter) if drafter else None,
        shapes,
        env,
        **assumed,
    )
