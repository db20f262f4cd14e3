"""Pure placement planning: spec + model shape + GPU shape -> device maps, memory fit, predicted ceiling."""

from specbatch.plan.device_map import compare_with_actual
from specbatch.plan.gpus import cpu_shape, parse_gpus, visible_gpu_shape
from specbatch.plan.model_shape import ModelShape
from specbatch.plan.planner import make_plan
from specbatch.plan.read_shape import read_shape, shape_from_config
from specbatch.plan.render import render
from specbatch.plan.types import DeviceUse, GpuShape, ModelPlacement, Plan, ReplicaPlan

__all__ = [
    "DeviceUse",
    "GpuShape",
    "ModelPlacement",
    "ModelShape",
    "Plan",
    "ReplicaPlan",
    "compare_with_actual",
    "cpu_shape",
    "make_plan",
    "parse_gpus",
    "read_shape",
    "render",
    "shape_from_config",
    "visible_gpu_shape",
]
