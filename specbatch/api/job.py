"""SpecBatchJob v1alpha1: the whole file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from specbatch.api.base import DnsLabel, LabelValue, QualifiedName, Says, SpecModel
from specbatch.api.dataset import DatasetSpec
from specbatch.api.decoding import BatchingSpec, DecodingSpec
from specbatch.api.engine import EngineSpec
from specbatch.api.hash import hash_spec
from specbatch.api.job_section import JobSpec
from specbatch.api.models import DrafterSpec, TargetSpec
from specbatch.api.placement import PlacementSpec
from specbatch.api.results import ResultsSpec
from specbatch.redact import redact_uri

API_VERSION = "specbatch.dev/v1alpha1"
KIND = "SpecBatchJob"

# 63 characters of a label, less "-" and the ten of the hash that the Job's name carries.
_JobName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=52),
    Says("a DNS label (lower-case letters, digits and '-', no '-' at either end, at most 52 characters)"),
]


class Metadata(SpecModel):
    """The job's name and what else is said of it, as in every Kubernetes object."""

    name: _JobName = Field(
        description="The job's name: the folder of its results, and the start of its Kubernetes Job's name.",
        examples=["nightly"],
    )
    namespace: DnsLabel | None = Field(
        default=None, description="The Kubernetes namespace. Left out: that of the current context.", examples=["ml"]
    )
    labels: dict[QualifiedName, LabelValue] = Field(
        default_factory=dict, description="Labels of the Job and its pods.", examples=[{"team": "search"}]
    )
    annotations: dict[QualifiedName, str] = Field(
        default_factory=dict, description="Annotations of the Job.", examples=[{"example.com/ticket": "ML-17"}]
    )


class Spec(SpecModel):
    """What to run: the pair of models, where, how, on what."""

    target: TargetSpec = Field(
        description="The target: the large model whose output is wanted, exactly.",
        examples=[{"model": "Qwen/Qwen3-8B"}],
    )
    drafter: DrafterSpec | None = Field(
        default=None,
        description="The drafter: proposes tokens that the target then verifies, several at once. It changes the speed, never the text. "
        "Left out: the target decodes alone.",
        examples=[{"model": "Qwen/Qwen3-1.7B"}],
    )
    placement: PlacementSpec = Field(
        default_factory=PlacementSpec,
        description="Which GPUs hold what. `specbatch plan FILE` shows the outcome before anything runs.",
        examples=[{"gpus": 8}],
    )
    engine: EngineSpec = Field(
        default_factory=EngineSpec,
        description="Which engine decodes the rows: specbatch's own, or vLLM behind the same runner.",
        examples=[{"name": "native"}],
    )
    decoding: DecodingSpec = Field(
        default_factory=DecodingSpec,
        description="How the next token is chosen, and how far to speculate.",
        examples=[{"maxNewTokens": 512}],
    )
    batching: BatchingSpec = Field(
        default_factory=BatchingSpec,
        description="How many rows are decoded at once, and how long a row may be.",
        examples=[{"maxLength": 2048}],
    )
    dataset: DatasetSpec = Field(description="The prompts.", examples=[{"uri": "prompts.jsonl"}])
    results: ResultsSpec = Field(
        default_factory=ResultsSpec,
        description="Where the results go, and how safely they are written.",
        examples=[{"dir": "/results"}],
    )
    job: JobSpec = Field(
        default_factory=JobSpec,
        description="How the run becomes a Kubernetes Job. `specbatch run` on this machine reads nothing of it.",
        examples=[{"completions": 4}],
    )


class SpecBatchJob(SpecModel):
    """One batch run: a prompt dataset through a target, accelerated by a drafter."""

    api_version: Literal["specbatch.dev/v1alpha1"] = Field(
        description="The version of this format.", examples=[API_VERSION]
    )
    kind: Literal["SpecBatchJob"] = Field(description="What this file is.", examples=[KIND])
    metadata: Metadata = Field(
        description="The job's name and what else is said of it, as in every Kubernetes object.",
        examples=[{"name": "nightly"}],
    )
    spec: Spec = Field(
        description="What to run: the pair of models, where, how, on what.",
        examples=[{"target": {"model": "Qwen/Qwen3-8B"}, "dataset": {"uri": "prompts.jsonl"}}],
    )

    @property
    def results_name(self) -> str:
        """The run's folder under results.dir and results.publish."""
        return self.spec.results.name or self.metadata.name

    def public(self) -> dict[str, Any]:
        """The whole spec as plain data, defaults filled in, without the secrets of its URIs: for files that others read."""
        value = self.model_dump(mode="json", by_alias=True)
        for section, name in (("dataset", "uri"), ("results", "publish")):
            uri = value["spec"][section][name]
            value["spec"][section][name] = uri and redact_uri(uri)
        return value

    def spec_hash(self) -> str:
        """The sha256 (64 hex digits) of what affects the results, defaults filled in; see specbatch.api.hash."""
        return hash_spec(self.spec.model_dump(mode="json", by_alias=True))
