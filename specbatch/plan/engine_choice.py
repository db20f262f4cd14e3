"""Which engine decodes a run's rows, and why: decided from the spec, the models' shapes and what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from specbatch.api import Spec
from specbatch.api.rules.engine import not_of_vllm
from specbatch.errors import ModelError
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.stored_weights import is_known, needed, unreadable

INSTALL = "pip install 'specbatch[vllm]' where it runs, or use the image with vLLM"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine of a run.

    name: which
    version: of vLLM; "" where it is not installed, and of the native engine, whose version is the package's
    reason: why this one, in words
    remedy: what to do for another one; "" where there is nothing to do
    cannot: what keeps a run from starting, since this one cannot run a model and there is no other; "" where nothing is known to
    otherwise: beside the remedy, what to do about that
    """

    name: Literal["native", "vllm"]
    version: str
    reason: str
    remedy: str = ""
    cannot: str = ""
    otherwise: str = ""

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
    refused = {role: why for role, shape in shapes.items() if (why := why_not(shape))}
    role, cannot = ("target", cannot) if cannot else next(iter(refused.items()), ("", ""))
    if spec.engine.name == "native":
        for each, shape in shapes.items():
            check_layers(each, shape)
        return EngineChoice("native", "", "spec.engine.name says so")
    if spec.engine.name == "vllm" or spec.target.adapter is not None:
        named = "spec.engine.name says so" if spec.engine.name == "vllm" else "target.adapter needs it"
        return EngineChoice("vllm", version, named, remedy)
    if cannot:
        return _instead(spec, installed, f"the native engine cannot run the {role}, which has {cannot}", shapes[role])
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
        ModelError: something in it is not supported, or its weights are not read.
    """
    if why := why_not(shape):
        raise ModelError(
            f"the native engine cannot run the {role}, which has {why}",
            where=f"spec.{role}.model {shape.name}",
            remedy=f"leave engine.name out, or say vllm, which runs such models; or {_otherwise(shape)}",
        )


def why_not(shape: ModelShape) -> str:
    """What a model has that keeps the native engine from running it here; "" where its config shows nothing."""
    why = unreadable(shape.quantised_by) if shape.left else ""
    return shape.foreign or (f"{shape.left}{why}" if why else "")


def _otherwise(shape: ModelShape) -> str:
    if shape.left and not shape.foreign and not is_known(shape.quantised_by):
        return "use the unquantised model"
    if shape.left and not shape.foreign:
        return f"{needed(shape.quantised_by)}, with which transformers reads it; or use the unquantised model"
    return "use a model with plain attention in every layer"


def _instead(spec: Spec, installed: str | None, reason: str, shape: ModelShape) -> EngineChoice:
    """What runs a model that the native engine cannot run."""
    found = _vllm_if_there_is(spec, installed, reason)
    if found.name == "vllm":
        return found
    why = found.reason if installed else f"{reason}, and vLLM is not installed"
    return replace(found, cannot=why, otherwise=_otherwise(shape))


def _vllm_if_there_is(spec: Spec, installed: str | None, reason: str) -> EngineChoice:
    if not installed:
        return EngineChoice("native", "", f"vLLM is not installed, though {reason}", INSTALL)
    refused = next(not_of_vllm(spec), None)
    if refused is not None:
        return EngineChoice("native", "", f"{reason}, but {refused.path} is not vLLM's", refused.remedy)
    return EngineChoice("vllm", installed, f"{reason}, and vLLM is installed")
