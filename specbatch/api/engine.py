"""Which engine decodes the rows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from specbatch.api.base import SpecModel

EngineName = Literal["auto", "native", "vllm"]


class EngineSpec(SpecModel):
    """Which engine decodes the rows: specbatch's own, or vLLM behind the same runner."""

    name: EngineName = Field(
        default="auto",
        description="native: specbatch's own engine; a row's text depends on no other row. vllm: vLLM, for models, adapters and tensor parallelism that the native "
        "engine does not have; needs specbatch[vllm] where it runs. auto: native on a CPU, and where both models have its fast path; else vllm if it is installed; "
        "else native's general path. The plan, the log and the manifest say which, and why.",
        examples=["vllm"],
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="With name vllm: further arguments of vLLM's EngineArgs, by their Python names. What the spec has a field for is refused here, with that field's name.",
        examples=[{"gpu_memory_utilization": 0.8, "tensor_parallel_size": 2}],
    )
