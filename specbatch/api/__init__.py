"""The SpecBatchJob v1alpha1 spec: types, defaults, validation, JSON schema. The single source of truth."""

from specbatch.api.dataset import DatasetSpec
from specbatch.api.decoding import BatchingSpec, DecodingSpec
from specbatch.api.engine import EngineSpec
from specbatch.api.job import API_VERSION, KIND, Metadata, Spec, SpecBatchJob
from specbatch.api.job_section import JobSpec
from specbatch.api.loading.load import load_spec
from specbatch.api.loading.parsing import parse_spec
from specbatch.api.models import DrafterSpec, TargetSpec
from specbatch.api.placement import PlacementSpec, RatioSpec
from specbatch.api.results import ResultsSpec
from specbatch.api.volumes import VolumesSpec

__all__ = [
    "API_VERSION",
    "KIND",
    "BatchingSpec",
    "DatasetSpec",
    "DecodingSpec",
    "DrafterSpec",
    "EngineSpec",
    "JobSpec",
    "Metadata",
    "PlacementSpec",
    "RatioSpec",
    "ResultsSpec",
    "Spec",
    "SpecBatchJob",
    "TargetSpec",
    "VolumesSpec",
    "load_spec",
    "parse_spec",
]
