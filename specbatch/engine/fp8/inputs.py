"""Inputs of linears that are rounded to FP8, left as they are: for comparing two ways of computing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from specbatch.engine.quantization.linears import QuantizedLinear


@contextmanager
def inputs_as_they_are(model: nn.Module) -> Iterator[None]:
    """As leave_inputs, for a while."""
    groups = leave_inputs(model)
    try:
        yield
    finally:
        for module, group in groups.items():
            module.group = group


def leave_inputs(model: nn.Module) -> dict[QuantizedLinear, int]:
    """From now on no input of a linear is rounded: for two ways of computing that are compared, and would round apart to neighbours in FP8.

    Returns:
        the group of each
    """
    groups = {module: module.group for module in model.modules() if isinstance(module, QuantizedLinear)}
    for module in groups:
        module.group = 0
    return groups
