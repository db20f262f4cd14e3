"""From spec and plan to vLLM's arguments, and what is refused on the way."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from specbatch.errors import SpecError
from specbatch.runner.vllm.arguments import engine_arguments, num_speculative_tokens
from tests.api.specs import job

KNOWN = {
    "model", "dtype", "trust_remote_code", "max_model_len", "max_num_seqs", "skip_tokenizer_init", "seed", "disable_log_stats", "use_tqdm_on_load",
    "logprobs_mode", "max_logprobs", "generation_config", "structured_outputs_config", "tensor_parallel_size", "pipeline_parallel_size", "enable_lora", "max_loras", "max_lora_rank", "speculative_config",
    "per_request_spec_decode_metrics", "kv_cache_memory_bytes", "enforce_eager", "gpu_memory_utilization", "kv_cache_dtype",
}  # fmt: skip


def made(spec="", *, gpus=1, eagle3=False, rank=None, eos=2, scoring=False, taken=None):
    spec = job(f"{{placement: {{gpus: {gpus}}}, {spec}}}").spec
    spec = spec.model_copy(update={"decoding": spec.decoding.model_copy(update=taken or {})})
    replica = SimpleNamespace(
        devices=tuple(f"cuda:{n}" for n in range(max(gpus, 1))), target=SimpleNamespace(kv_bytes=1000)
    )
    pair = SimpleNamespace(
        target=SimpleNamespace(path=Path("/target"), code=False),
        drafter=SimpleNamespace(path=Path("/drafter"), is_eagle3=eagle3),
        adapter=None if rank is None else SimpleNamespace(rank=rank),
    )
    plan = SimpleNamespace(max_sequences=8)
    inputs = SimpleNamespace(
        spec=spec,
        plan=plan,
        pair=pair,
        max_length=512,
        tokenizer=SimpleNamespace(eos_token_id=eos),
        eos_token_ids=(2, 7),
    )
    return engine_arguments(inputs, replica, KNOWN, scoring=scoring)


def test_kv_in_fp8_is_its_kv_cache_dtype():
    asked = made("target: {model: a/b, kvDtype: fp8}, engine: {name: vllm}")
    assert asked["kv_cache_dtype"] == "fp8"
    assert "kv_cache_dtype" not in made("engine: {name: vllm}")


def test_sizes_come_from_the_spec_and_the_plan():
    found = made("target: {model: a/b, dtype: float32}, engine: {name: vllm}", gpus=0)
    assert (found["model"], found["dtype"], found["max_model_len"], found["max_num_seqs"]) == (
        "/target",
        "float32",
        512,
        8,
    )
    assert found["kv_cache_memory_bytes"] > 1000, "on a CPU vLLM would take nine tenths of the memory"
    assert "max_num_seqs" not in made(), "on a GPU it knows best, where the spec says nothing"


def test_the_gpus_of_a_replica_share_the_model_by_tensor_parallelism_unless_the_options_say_otherwise():
    assert made(gpus=4)["tensor_parallel_size"] == 4
    found = made("engine: {name: vllm, options: {pipeline_parallel_size: 2}}", gpus=4)
    assert (found["tensor_parallel_size"], found["pipeline_parallel_size"]) == (2, 2)


@pytest.mark.parametrize(
    ("drafter", "eagle3", "config"),
    [
        ("{model: a/c}", False, {"method": "draft_model", "model": "/drafter", "num_speculative_tokens": 4}),
        ("{model: a/c}", True, {"method": "eagle3", "model": "/drafter", "num_speculative_tokens": 4}),
        (
            "{method: ngram, promptLookupMax: 3}",
            False,
            {"method": "ngram", "prompt_lookup_max": 3, "prompt_lookup_min": 1, "num_speculative_tokens": 4},
        ),
    ],
)
def test_the_drafter_is_vllms_speculative_config(drafter, eagle3, config):
    assert made(f"drafter: {drafter}", eagle3=eagle3)["speculative_config"] == config


@pytest.mark.parametrize(
    ("decoding", "k"),
    [("{}", 4), ("{maxSpeculativeTokens: 2}", 2), ("{numSpeculativeTokens: 7}", 7), ("{numSpeculativeTokens: 0}", 0)],
)
def test_k_is_fixed(decoding, k):
    spec = job(f"{{drafter: {{model: a/b}}, decoding: {decoding}}}").spec
    assert num_speculative_tokens(spec) == k
    assert ("speculative_config" in made(f"drafter: {{model: a/b}}, decoding: {decoding}")) == bool(k)


def test_an_adapter_has_the_next_rank_that_vllm_has():
    found = made(rank=12)
    assert (found["enable_lora"], found["max_lora_rank"]) == (True, 16)
    assert "enable_lora" not in made()


def test_every_wrong_option_is_named_at_once_with_what_to_do():
    options = "{enforce_eagr: true, max_model_len: 9, skip_tokenizer_init: false, tensor_parallel_size: 3}"
    with pytest.raises(SpecError) as caught:
        made(f"engine: {{name: vllm, options: {options}}}", gpus=2, taken={"begin_suppress_tokens": [3]})
    said = str(caught.value)
    for words in (
        "did you mean enforce_eager?",
        "set spec.batching.maxLength",
        "skip_tokenizer_init: is not an option",
        "3 x 1 (pipeline) is not the 2 GPUs of a replica",
        "spec.decoding.beginSuppressTokens",
    ):
        assert words in said


def test_an_argument_that_an_older_vllm_has_not_is_left_out_and_an_option_wins():
    found = made("engine: {name: vllm, options: {gpu_memory_utilization: 0.5}}")
    assert found["gpu_memory_utilization"] == 0.5
    assert set(found) <= KNOWN


def test_grammars_have_the_native_engines_compiler_and_only_where_both_end_texts_with_the_same_tokens():
    assert made()["structured_outputs_config"] == {"backend": "guidance"}
    assert not made(eos=7)["skip_tokenizer_init"]
    assert made(eos=3)["skip_tokenizer_init"]


def test_scores_for_verify_are_all_logits():
    found = made(scoring=True)
    assert (found["logprobs_mode"], found["max_logprobs"]) == ("raw_logits", -1)
    assert "logprobs_mode" not in made()


@pytest.mark.parametrize(
    "sizes",
    [
        "{pipeline_parallel_size: 3}",
        "{pipeline_parallel_size: 0}",
        "{tensor_parallel_size: 'two'}",
        "{tensor_parallel_size: true}",
    ],
)
def test_sizes_that_are_not_the_gpus_of_a_replica_are_refused(sizes):
    with pytest.raises(SpecError, match="is not the 2 GPUs of a replica"):
        made(f"engine: {{name: vllm, options: {sizes}}}", gpus=2)


def test_processes_may_share_a_cpu_by_tensor_parallelism_alone():
    found = made("engine: {name: vllm, options: {tensor_parallel_size: 2}}", gpus=0)
    assert found["tensor_parallel_size"] == 2
    with pytest.raises(SpecError, match="set tensor_parallel_size instead"):
        made("engine: {name: vllm, options: {pipeline_parallel_size: 2}}", gpus=0)
