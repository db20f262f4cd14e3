"""Pure placement planning: spec + model shape + GPU shape -> device maps, memory fit, predicted ceiling."""

from specbatch.plan.types import (
    Alternative,
    Ceiling,
    DeviceUse,
    GpuShape,
    ModelPlacement,
    Plan,
    ReplicaPlan,
    Stage,
    Strategy,
)

__all__ = [
    "Alternative",
    "Ceiling",
    "DeviceUse",
    "GpuShape",
    "ModelPlacement",
    "Plan",
    "ReplicaPlan",
    "Stage",
    "Strategy",
]
