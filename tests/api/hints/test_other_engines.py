"""Names of other engines: what they are here, or what to do instead."""

from __future__ import annotations

import pytest

from specbatch.api.explain import find
from specbatch.api.hints.nearest import plain
from specbatch.api.hints.other_engines import NAMES, instead_of, meant_field
from specbatch.api.job import SpecBatchJob
from specbatch.api.paths import all_field_paths
from tests.api.specs import MINIMUM, problems


def test_every_field_that_is_named_exists():
    named = [field for field in map(meant_field, NAMES) if field is not None]
    assert len(named) > 50
    for field in named:
        assert find(field).path == f"spec.{field}"


def test_no_field_of_ours_is_taken_for_another_engines():
    ours = {plain(str(path[-1])) for path in all_field_paths(SpecBatchJob)} - {
        "data"
    }  # job.volumes.data: spec.data is the dataset
    assert not ours & set(NAMES)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("tensor_parallel_size: 2", "there is no tensor parallelism"),
        ("pipelineParallelSize: 2", "multi_gpu_ratio"),
        ("gpu_memory_utilization: 0.9", "batching.maxSequences: auto"),
        ("max_model_len: 8192", "here it is batching.maxLength"),
        ("batching: {max_num_seqs: 8}", "here it is batching.maxSequences"),
        ("max_tokens: 8", "here it is decoding.maxNewTokens"),
        ("lora: x", "merge it first"),
        ("quantize: awq", "not quantised here"),
        ("device_map: auto", "placement.gpus"),
        ("speculative_config: {model: x}", "drafter: {model: "),
        ("decoding: {num_beams: 4}", "no beam search"),
        ("hf_token: x", "HF_TOKEN in the environment"),
        ("dtype: bfloat16", "did you mean spec.target.dtype or spec.drafter.dtype?"),
        ("trust_remote_code: true", "did you mean spec.target.trustRemoteCode or"),
        ("decoding: {top_p: 1}", "did you mean topP?"),
    ],
)
def test_the_remedy_says_what_to_do(line, remedy):
    (problem,) = problems(f"{MINIMUM}  {line}\n")
    assert problem.message == "unknown field"
    assert remedy in problem.remedy


def test_a_field_under_another_name_is_not_missing_as_well():
    (problem,) = problems(MINIMUM.replace("model:", "model_name:"))
    assert (problem.path, problem.remedy) == ("spec.target.model_name", "here it is target.model")


def test_other_words_have_no_advice():
    assert instead_of("nonsense") is None
    assert meant_field("tensor_parallel_size") is None
