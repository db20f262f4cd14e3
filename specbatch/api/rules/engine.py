"""Rules of the engine: what each of them can be asked for."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.api.job import Spec, SpecBatchJob
from specbatch.api.rules.rule import rule
from specbatch.errors import Problem

_NATIVE = "leave it out, or set engine.name to native"


@rule("engine.name", "engine.options")
def _options_are_of_one_engine(job: SpecBatchJob) -> Iterator[Problem]:
    engine = job.spec.engine
    if engine.options and engine.name != "vllm":
        yield Problem(
            "spec.engine.options",
            f"are arguments of vLLM, but engine.name is {engine.name}",
            "set engine.name to vllm, or leave options out",
        )


@rule("engine.options", "target.kvDtype")
def _kv_has_one_dtype(job: SpecBatchJob) -> Iterator[Problem]:
    asked = job.spec.target.kv_dtype
    if asked != "auto" and "kv_cache_dtype" in job.spec.engine.options:
        yield Problem("spec.engine.options.kv_cache_dtype", f"target.kvDtype says {asked}", "leave one of them out")


@rule("engine.name", "target.adapter")
def _adapters_need_an_engine_that_has_them(job: SpecBatchJob) -> Iterator[Problem]:
    if job.spec.target.adapter is not None and job.spec.engine.name == "native":
        yield Problem(
            "spec.target.adapter",
            "the native engine loads no adapters",
            "set engine.name to vllm, or merge the adapter into the target",
        )


@rule("engine.name", "placement.strategy", "placement.microBatches", "placement.gpus", "drafter", "decoding")
def _vllm_places_by_itself(job: SpecBatchJob) -> Iterator[Problem]:
    if job.spec.engine.name == "vllm":
        yield from not_of_vllm(job.spec)


def not_of_vllm(spec: Spec) -> Iterator[Problem]:
    """What a spec asks for that vLLM does not do."""
    placement = spec.placement
    if placement.strategy in {"separate", "multi_gpu_ratio"}:
        yield Problem(
            "spec.placement.strategy",
            f"vLLM has target and drafter on the same GPUs, but strategy is {placement.strategy}",
            "set strategy to same or auto: it is split by tensor parallelism where one GPU is too small; or set engine.name to native",
        )
    if spec.drafter is not None and spec.drafter.quantization is not None:
        yield Problem("spec.drafter.quantization", "vLLM loads a drafter as it is stored", _NATIVE)
    if spec.drafter is not None and spec.drafter.method == "mtp":
        yield Problem("spec.drafter.method", "mtp is planned for the native engine alone", _NATIVE)
    if spec.drafter is not None and spec.drafter.window is not None:
        yield Problem("spec.drafter.window", "vLLM's drafters see whole rows", _NATIVE)
    if spec.drafter is not None and spec.drafter.kv_dtype != "auto":
        yield Problem("spec.drafter.kvDtype", "vLLM's drafters keep keys and values as the target does", _NATIVE)
    if placement.micro_batches != "auto":
        yield Problem("spec.placement.microBatches", "vLLM schedules by itself, and has no such setting", _NATIVE)
    yield from _decoding_not_of_vllm(spec)


def _decoding_not_of_vllm(spec: Spec) -> Iterator[Problem]:
    decoding = spec.decoding
    if decoding.no_repeat_ngram_size:
        yield Problem("spec.decoding.noRepeatNgramSize", "vLLM bans no n-grams", _NATIVE)
    if decoding.begin_suppress_tokens:
        yield Problem("spec.decoding.beginSuppressTokens", "vLLM bans tokens for the whole of a text", _NATIVE)
    if spec.drafter is not None:
        for field, asked in (("minP", decoding.min_p), ("logitBias", decoding.logit_bias)):
            if asked:
                yield Problem(
                    f"spec.decoding.{field}", "vLLM has none for rows with drafts", f"set drafter to null; {_NATIVE}"
                )
        if decoding.temperature > 0 and spec.placement.gpus == 0:
            yield Problem(
                "spec.decoding.temperature",
                "vLLM's build for CPUs does not sample with drafts",
                f"set drafter to null; {_NATIVE}",
            )
