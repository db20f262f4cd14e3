"""From the spec and the plan to vLLM's EngineArgs, with every option of the spec checked against them before anything is loaded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from specbatch.api.hints.nearest import nearest
from specbatch.api.job import Spec
from specbatch.api.rules.engine import not_of_vllm
from specbatch.errors import Problem, SpecError
from specbatch.plan.types import ReplicaPlan
from specbatch.runner.inputs import RunInputs

_AUTO_K = 4  # tokens drafted a round where the spec leaves it open, or maxSpeculativeTokens where that is less
_SPARE = 1.1  # vLLM's KV comes in blocks, and a row's last one is seldom full

# Arguments that the spec has a field for; those of no field are the adapter's own.
_TAKEN: Mapping[str, Collection[str]] = {
    "spec.target.model": ("model", "tokenizer"),
    "spec.target.revision": ("revision", "code_revision"),
    "spec.target.trustRemoteCode": ("trust_remote_code",),
    "spec.target.dtype": ("dtype",),
    "spec.target.adapter": ("enable_lora", "max_loras", "max_lora_rank"),
    "spec.decoding.seed": ("seed",),
    "spec.batching.maxLength": ("max_model_len",),
    "spec.batching.maxSequences": ("max_num_seqs",),
    "spec.drafter and spec.decoding.numSpeculativeTokens": ("speculative_config",),
    "spec.placement.replicas": ("data_parallel_size",),
    "": (
        *("skip_tokenizer_init", "disable_log_stats", "runner", "logprobs_mode", "max_logprobs", "generation_config"),
        *("structured_outputs_config", "per_request_spec_decode_metrics", "limit_mm_per_prompt"),
    ),
}


def engine_arguments(
    inputs: RunInputs, replica: ReplicaPlan, known: Collection[str], *, scoring: bool = False
) -> dict[str, Any]:
    """The keyword arguments of EngineArgs for one replica.

    Args:
        inputs: of the run.
        replica: its place; its GPUs are shared by tensor parallelism where the options say nothing else.
        known: the fields of the EngineArgs that is installed.
        scoring: whether its log probabilities are to be logits, of as many tokens as are asked for, for `verify`.

    Raises:
        SpecError: options that are not known, or are the spec's to say, or do not fit the GPUs: all at once.
    """
    spec, plan, target, gpus = inputs.spec, inputs.plan, inputs.pair.target, len(replica.devices)
    options = dict(spec.engine.options)
    pipeline = options.get("pipeline_parallel_size", 1)
    each = gpus // pipeline if spec.placement.gpus and type(pipeline) is int and pipeline > 0 else 1
    tensor = options.get("tensor_parallel_size", each)
    problems = [*not_of_vllm(spec), *_wrong_options(options, known)]
    if spec.placement.gpus and not (type(tensor) is type(pipeline) is int and tensor * pipeline == gpus):
        said = f"{tensor} x {pipeline} (pipeline) is not the {gpus} GPU{'s' * (gpus > 1)} of a replica"
        remedy = "leave it out, or change placement.gpus or placement.replicas"
        problems.append(Problem("spec.engine.options.tensor_parallel_size", said, remedy))
    if not spec.placement.gpus and pipeline != 1:
        said, remedy = "vLLM's engine for CPUs dies of pipeline stages (0.32)", "set tensor_parallel_size instead"
        problems.append(Problem("spec.engine.options.pipeline_parallel_size", said, remedy))
    if problems:
        raise SpecError(problems, source="engine")
    arguments: dict[str, Any] = {
        "model": str(target.path),
        "dtype": spec.target.dtype,
        "trust_remote_code": target.code,
        "max_model_len": inputs.max_length,
        # Tokens are all that goes in and out; grammars need its tokenizer, by whose end of text vLLM would end rows.
        "skip_tokenizer_init": inputs.tokenizer.eos_token_id not in inputs.eos_token_ids,
        "structured_outputs_config": {"backend": "guidance"},  # the native engine's
        "generation_config": "vllm",  # none: its defaults are the run's to take
        "seed": 0,  # each row has a seed of its own
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "tensor_parallel_size": tensor,
    }
    if scoring:
        arguments |= {"logprobs_mode": "raw_logits", "max_logprobs": -1}
    if spec.batching.max_sequences != "auto" or spec.placement.gpus == 0:
        arguments["max_num_seqs"] = plan.max_sequences
    if spec.placement.gpus == 0:
        arguments["kv_cache_memory_bytes"] = int(_SPARE * replica.target.kv_bytes) + (64 << 20)
    if spec.target.kv_dtype != "auto":
        arguments["kv_cache_dtype"] = spec.target.kv_dtype
    if inputs.pair.adapter is not None:
        rank = max(8, 1 << (inputs.pair.adapter.rank - 1).bit_length())  # the powers of two are what vLLM has
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
    if k := num_speculative_tokens(spec):
        drafts = {**_drafter(inputs), "num_speculative_tokens": k}
        arguments |= {"speculative_config": drafts, "per_request_spec_decode_metrics": "detailed"}
    return {name: value for name, value in arguments.items() if name in known} | options


def num_speculative_tokens(spec: Spec) -> int:
    """k, which vLLM fixes for a run; 0 where nothing is drafted."""
    if spec.drafter is None:
        return 0
    k = spec.decoding.num_speculative_tokens
    return min(_AUTO_K, spec.decoding.max_speculative_tokens) if k == "auto" else k


def _drafter(inputs: RunInputs) -> dict[str, Any]:
    drafter, files = inputs.spec.drafter, inputs.pair.drafter
    if drafter is not None and drafter.method == "ngram":
        lookup = {"prompt_lookup_max": drafter.prompt_lookup_max, "prompt_lookup_min": drafter.prompt_lookup_min}
        return {"method": "ngram", **lookup}
    assert files is not None, "a drafter model has files"
    return {"method": "eagle3" if files.is_eagle3 else "draft_model", "model": str(files.path)}


def _wrong_options(options: Mapping[str, Any], known: Collection[str]) -> Iterator[Problem]:
    for name in options:
        path = f"spec.engine.options.{name}"
        field = next((field for field, names in _TAKEN.items() if name in names), None)
        if field is not None:
            yield Problem(path, "is not an option: the runner decides it", f"set {field}" if field else "leave it out")
        elif name not in known:
            guess = nearest(name, known)
            remedy = f"did you mean {guess}?" if guess else "EngineArgs in vLLM's documentation lists them"
            yield Problem(path, "is no argument of the vLLM that is installed", remedy)
