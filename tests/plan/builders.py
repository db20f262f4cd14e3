"""Jobs, shapes and GPUs for the tests of the planner."""

from __future__ import annotations

import json
from pathlib import Path

from specbatch.api import SpecBatchJob, parse_spec
from specbatch.plan.config import shape_from_config
from specbatch.plan.devices import parse_gpus
from specbatch.plan.planner import make_plan
from specbatch.plan.shape import ModelShape
from specbatch.plan.types import GpuShape, Plan

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
