"""From the spec and the plan to vLLM's EngineArgs, with every option of the spec checked against them before anything is loaded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from specbatch.api.hints.nearest import nearest
from specbatch.api.job import Spec
from specbatch.errors import Problem, SpecError
from specbatch.plan.types import ReplicaPlan
from specbatch.runner.inputs import RunInputs
from specbatch.runner.vllm.sampling import not_of_vllm

_AUTO_K = 4  # tokens drafted a round where the spec leaves it open, or maxSpeculativeTokens where that is less
_SPARE = 1.1  # vLLM's KV comes in blocks, and a row's last one is seldom full

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has

# Arguments that the spec has a field for, or that the seam decides.
TAKEN: Mapping[str, str] = {
    "model": "spec.target.model",
    "revision": "spec.target.revision",
    "code_revision": "spec.target.revision",
    "trust_remote_code": "spec.target.trustRemoteCode",
    "dtype": "spec.target.dtype",
    "seed": "spec.decoding.seed",
    "max_model_len": "spec.batching.maxLength",
    "max_num_seqs": "spec.batching.maxSequences",
    "speculative_config": "spec.drafter and spec.decoding.numSpeculativeTokens",
    "enable_lora": "spec.target.adapter",
    "data_parallel_size": "spec.placement.replicas",
    "tokenizer": "spec.target.model",
    "skip_tokenizer_init": "",
    "per_request_spec_decode_metrics": "",
    "disable_log_stats": "",
    "runner": "",
    "logprobs_mode": "",
}


def engine_arguments(inputs: RunInputs, replica: ReplicaPlan, known: Collection[str]) -> dict[str, Any]:
    """The keyword arguments of EngineArgs for one replica.

    Args:
        inputs: of the run.
        replica: its place; its GPUs are shared by tensor parallelism where the options say nothing else.
        known: the fields of the EngineArgs that is installed.

    Raises:
        SpecError: options that are not known, or are the spec's to say, or do not fit the GPUs: all at once.
    """
    spec, plan, target = inputs.spec, inputs.plan, inputs.pair.target
    arguments: dict[str, Any] = {
        "model": str(target.path),
        "dtype": spec.target.dtype,
        "trust_remote_code": target.code,
        "max_model_len": inputs.max_length,
        "skip_tokenizer_init": True,  # tokens are all that goes in and out
        "seed": 0,  # each row has a seed of its own
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "logprobs_mode": "raw_logits",  # for `verify`
    }
    if spec.batching.max_sequences != "auto" or spec.placement.gpus == 0:
        arguments["max_num_seqs"] = plan.max_sequences
    if spec.placement.gpus == 0:
        arguments["kv_cache_memory_bytes"] = int(_SPARE * replica.target.kv_bytes) + (64 << 20)
    if len(replica.devices) > 1:
        arguments["tensor_parallel_size"] = len(replica.devices)
    if inputs.pair.adapter is not None:
        rank = next((size for size in _LORA_RANKS if size >= inputs.pair.adapter.rank), _LORA_RANKS[-1])
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
    speculative = _speculative_config(inputs)
    if speculative is not None:
        arguments |= {"speculative_config": speculative, "per_request_spec_decode_metrics": "detailed"}
    options = dict(spec.engine.options)
    problems = [
        *not_of_vllm(spec.decoding),
        *_wrong_options(options, known),
        *_wrong_sizes(options, len(replica.devices)),
    ]
    if problems:
        raise SpecError(problems, source="engine")
    if "pipeline_parallel_size" in options and "tensor_parallel_size" not in options:
        arguments["tensor_parallel_size"] = len(replica.devices) // options["pipeline_parallel_size"]
    return {name: value for name, value in arguments.items() if name in known} | options


def num_speculative_tokens(spec: Spec) -> int:
    """k, which vLLM fixes for a run; 0 where nothing is drafted."""
    if spec.drafter is None:
        return 0
    k = spec.decoding.num_speculative_tokens
    return min(_AUTO_K, spec.decoding.max_speculative_tokens) if k == "auto" else k


def _speculative_config(inputs: RunInputs) -> dict[str, Any] | None:
    spec, drafter = inputs.spec, inputs.spec.drafter
    k = num_speculative_tokens(spec)
    if drafter is None or not k:
        return None
    if drafter.method == "ngram":
        lookup = {"prompt_lookup_max": drafter.prompt_lookup_max, "prompt_lookup_min": drafter.prompt_lookup_min}
        return {"method": "ngram", "num_speculative_tokens": k, **lookup}
    assert inputs.pair.drafter is not None, "a drafter model has files"
    method = "eagle3" if inputs.pair.drafter.is_eagle3 else "draft_model"
    return {"method": method, "num_speculative_tokens": k, "model": str(inputs.pair.drafter.path)}


def _wrong_options(options: Mapping[str, Any], known: Collection[str]) -> Iterator[Problem]:
    for name in options:
        path = f"spec.engine.options.{name}"
        if name in TAKEN or name == "limit_mm_per_prompt":
            field = TAKEN.get(name, "")
            yield Problem(path, "is not an option: the runner decides it", f"set {field}" if field else "leave it out")
        elif name not in known:
            guess = nearest(name, known)
            yield Problem(
                path,
                "is no argument of the vLLM that is installed",
                f"did you mean {guess}?" if guess else "EngineArgs in vLLM's documentation lists them",
            )


def _wrong_sizes(options: Mapping[str, Any], gpus: int) -> Iterator[Problem]:
    sizes = [options.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline")]
    if not all(type(size) is int and size > 0 for size in sizes):
        yield Problem("spec.engine.options", f"parallel sizes are numbers, found {sizes}", "give whole numbers")
    elif "tensor_parallel_size" in options and sizes[0] * sizes[1] != gpus:
        yield Problem(
            "spec.engine.options.tensor_parallel_size",
            f"{sizes[0]} x {sizes[1]} (pipeline) is not the {gpus} GPU{'s' if gpus > 1 else ''} of a replica",
            "leave it out, or change placement.gpus or placement.replicas",
        )
    elif gpus % sizes[1]:
        yield Problem(
            "spec.engine.options.pipeline_parallel_size", f"does not divide the {gpus} GPUs of a replica", "change it"
        )
