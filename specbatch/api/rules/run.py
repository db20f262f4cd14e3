"""Rules between decoding, batching, dataset and results."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.api.job import SpecBatchJob
from specbatch.api.quantity import quantity_value
from specbatch.api.rules.rule import rule
from specbatch.errors import Problem
from specbatch.redact import holds_password, holds_secret

_LEAST_PART_BYTES = 4096


@rule("decoding.temperature", "decoding.topK", "decoding.topP", "decoding.minP", "decoding.n", "decoding.fromModel")
def _filters_need_a_temperature(job: SpecBatchJob) -> Iterator[Problem]:
    decoding = job.spec.decoding
    if decoding.temperature > 0 or decoding.from_model:
        return
    remedy = "set decoding.temperature above 0 to sample, or leave {} out"
    if decoding.top_k:
        message = f"topK {decoding.top_k} has no effect at temperature 0 (greedy)"
        yield Problem("spec.decoding.topK", message, remedy.format("topK"))
    if decoding.n > 1:
        message = f"n {decoding.n} gives the same text {decoding.n} times at temperature 0 (greedy)"
        yield Problem("spec.decoding.n", message, remedy.format("n"))
    if decoding.min_p:
        message = f"minP {decoding.min_p:g} has no effect at temperature 0 (greedy)"
        yield Problem("spec.decoding.minP", message, remedy.format("minP"))
    if decoding.top_p < 1:
        message = f"topP {decoding.top_p:g} has no effect at temperature 0 (greedy)"
        yield Problem("spec.decoding.topP", message, remedy.format("topP"))


@rule("decoding.minTokens", "decoding.maxNewTokens")
def _min_tokens_are_no_more_than_the_most(job: SpecBatchJob) -> Iterator[Problem]:
    least, most = job.spec.decoding.min_tokens, job.spec.decoding.max_new_tokens
    if least > most:
        yield Problem("spec.decoding.minTokens", f"{least} is more than maxNewTokens, which is {most}", "lower it")


@rule("decoding.numSpeculativeTokens", "drafter")
def _speculation_needs_a_drafter(job: SpecBatchJob) -> Iterator[Problem]:
    k = job.spec.decoding.num_speculative_tokens
    if job.spec.drafter is None and k not in {"auto", 0}:
        yield Problem(
            "spec.decoding.numSpeculativeTokens",
            f"{k} tokens cannot be drafted without a drafter",
            "add spec.drafter, or leave this out",
        )


@rule("decoding.maxNewTokens", "batching.maxLength")
def _new_tokens_leave_room_for_a_prompt(job: SpecBatchJob) -> Iterator[Problem]:
    new, length = job.spec.decoding.max_new_tokens, job.spec.batching.max_length
    if new >= length:
        yield Problem(
            "spec.decoding.maxNewTokens",
            f"{new} new tokens leave no room for a prompt in batching.maxLength, which is {length}",
            f"raise batching.maxLength above {new}, or lower maxNewTokens",
        )


@rule("dataset.chatTemplate", "dataset.systemPrompt", "dataset.enableThinking")
def _system_prompt_needs_a_template(job: SpecBatchJob) -> Iterator[Problem]:
    dataset = job.spec.dataset
    if dataset.chat_template != "none":
        return
    for name, given in (("systemPrompt", dataset.system_prompt), ("enableThinking", dataset.enable_thinking)):
        if given is not None:
            yield Problem(
                f"spec.dataset.{name}",
                "needs a chat template, but dataset.chatTemplate is none",
                f"set chatTemplate to auto, or leave {name} out",
            )


@rule("dataset.uri", "results.publish")
def _uris_hold_no_credentials(job: SpecBatchJob) -> Iterator[Problem]:
    """A signed dataset is fine: its signature ends by itself, and stays out of every file. Nothing can be appended to a signed URL."""
    dataset, publish = job.spec.dataset.uri, job.spec.results.publish
    remedy = "take it out; on Kubernetes name a Secret in job.secretEnvFrom, here set the usual environment variables"
    # The value is not repeated: it would end in logs.
    if holds_password(dataset):
        yield Problem("spec.dataset.uri", "holds a password or key", remedy)
    if publish is not None and holds_secret(publish):
        yield Problem("spec.results.publish", "holds a password, key or signature", remedy)


@rule("results.dir")
def _results_are_appended_to_a_folder(job: SpecBatchJob) -> Iterator[Problem]:
    if "://" in job.spec.results.dir:
        yield Problem(
            "spec.results.dir",
            f"{job.spec.results.dir} is object storage, where nothing can be appended",
            "give a folder here, and the URI in results.publish",
        )


@rule("results.partSize")
def _parts_hold_rows(job: SpecBatchJob) -> Iterator[Problem]:
    size = quantity_value(job.spec.results.part_size)
    if size < _LEAST_PART_BYTES:
        yield Problem(
            "spec.results.partSize",
            f"{job.spec.results.part_size} is {size:f} bytes, less than a row takes",
            "give at least 4Ki; a megabyte is 1M or 1Mi, and m stands for a thousandth",
        )
