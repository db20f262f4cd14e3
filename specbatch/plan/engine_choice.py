"""Which engine decodes a run's rows, and why: decided from the spec, the models' shapes and what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from specbatch.api import Spec
from specbatch.api.rules.engine import not_of_vllm
from specbatch.errors import ModelError
from specbatch.plan.shapes.model_shape import ModelShape

INSTALL = "pip install 'specbatch[vllm]' where it runs, or use the image with vLLM"
OTHERWISE = "use a model that the native engine runs"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine of a run.

    name: which
    version: of vLLM; "" where it is not installed, and of the native engine, whose version is the package's
    reason: why this one, in words
    remedy: what to do for another one; "" where there is nothing to do
    cannot: what keeps a run from starting, since this one cannot run a model and there is no other; "" where nothing is known to
    """

    name: Literal["native", "vllm"]
    version: str
    reason: str
    remedy: str = ""
    cannot: str = ""

    @property
    def identity(self) -> str:
        """As the run's identity has it."""
        return "native" if self.name == "native" else f"{self.name} {self.version}"

    def __str__(self) -> str:
        text = f"engine: {self.identity.strip()}, since {self.reason}"
        return f"{text} (for vLLM: {self.remedy})" if self.remedy else text


def choose_engine(
    spec: Spec, shapes: Mapping[str, ModelShape], installed: str | None, cannot: str | None = None
) -> EngineChoice:
    """The engine that spec.engine.name means.

    Args:
        spec: what to run.
        shapes: role -> shape, of the models that have weights.
        installed: vLLM's version; None where it is not installed.
        cannot: what keeps the native engine from running the target at all, where more is known than the shape shows.

    Raises:
        ModelError: the spec asks for the native engine, which cannot run a model.
    """
    version, remedy = installed or "", "" if installed else INSTALL
    role = next((role for role, shape in shapes.items() if shape.foreign), "target")
    if role in shapes and shapes[role].foreign and not cannot:
        cannot = shapes[role].foreign
    if spec.engine.name == "native":
        for each, shape in shapes.items():
            check_layers(each, shape)
        return EngineChoice("native", "", "spec.engine.name says so")
    if spec.engine.name == "vllm" or spec.target.adapter is not None:
        named = "spec.engine.name says so" if spec.engine.name == "vllm" else "target.adapter needs it"
        return EngineChoice("vllm", version, named, remedy)
    if cannot:
        reason = f"the native engine cannot run the {role}, which has {cannot}"
        found = _vllm_if_there_is(spec, installed, reason)
        return found if found.name == "vllm" else replace(found, cannot=_nothing_runs(found, reason, installed))
    if spec.placement.gpus == 0:
        return EngineChoice("native", "", "it runs on a CPU")
    slow = [f"the {role} ({shape.architecture})" for role, shape in shapes.items() if shape.why_general is not None]
    if slow:
        return _vllm_if_there_is(spec, installed, f"there is no fast path for {' and '.join(slow)}")
    return EngineChoice(
        "native", "", "both models have its fast path" if len(shapes) > 1 else "the target has its fast path"
    )


def check_layers(role: str, shape: ModelShape) -> None:
    """Refuses a model that the native engine cannot run.

    Raises:
        ModelError: something in it is not supported.
    """
    if shape.foreign:
        raise ModelError(
            f"the native engine cannot run the {role}, which has {shape.foreign}",
            where=f"spec.{role}.model {shape.name}",
            remedy="leave engine.name out, or say vllm, which runs such models; or use a model with plain attention in every layer",
        )


def _vllm_if_there_is(spec: Spec, installed: str | None, reason: str) -> EngineChoice:
    if not installed:
        return EngineChoice("native", "", f"vLLM is not installed, though {reason}", INSTALL)
    refused = next(not_of_vllm(spec), None)
    if refused is not None:
        return EngineChoice("native", "", f"{reason}, but {refused.path} is not vLLM's", refused.remedy)
    return EngineChoice("vllm", installed, f"{reason}, and vLLM is installed")


def _nothing_runs(found: EngineChoice, reason: str, installed: str | None) -> str:
    return found.reason if installed else f"{reason}, and vLLM is not installed"
