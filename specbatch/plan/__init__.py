"""Pure placement planning: spec + model shape + GPU shape -> device maps, memory fit, predicted ceiling."""

from specbatch.plan.ceiling import Assumptions, ceiling_of
from specbatch.plan.config import shape_from_config
from specbatch.plan.devices import cpu_shape, parse_gpus, visible_gpu_shape
from specbatch.plan.planner import make_plan
from specbatch.plan.read import read_shape, shape_in
from specbatch.plan.readback import compare_with_actual
from specbatch.plan.render import render
from specbatch.plan.shape import ModelShape
from specbatch.plan.source import resolve_model_dir
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
from specbatch.plan.visible import check_visible, visible_count
from specbatch.plan.weight_files import check_weight_files

__all__ = [
    "Alternative",
    "Assumptions",
    "Ceiling",
    "DeviceUse",
    "GpuShape",
    "ModelPlacement",
    "ModelShape",
    "Plan",
    "ReplicaPlan",
    "Stage",
    "Strategy",
    "ceiling_of",
    "check_visible",
    "check_weight_files",
    "compare_with_actual",
    "cpu_shape",
    "make_plan",
    "parse_gpus",
    "read_shape",
    "render",
    "resolve_model_dir",
    "shape_from_config",
    "shape_in",
    "visible_count",
    "visible_gpu_shape",
]
