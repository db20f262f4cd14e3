"""Rules between the models and the GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.api.hints.nearest import nearest
from specbatch.api.job import SpecBatchJob
from specbatch.api.placement import PlacementSpec
from specbatch.api.rules.rule import rule
from specbatch.errors import Problem

_EMBEDDED = ("embedded:target", "embedded:drafter")


@rule("target")
def _target_reference_can_be_meant(job: SpecBatchJob) -> Iterator[Problem]:
    yield from _reference("spec.target", job.spec.target.model, job.spec.target.revision)


@rule("drafter")
def _drafter_has_what_its_method_needs(job: SpecBatchJob) -> Iterator[Problem]:
    drafter = job.spec.drafter
    if drafter is None:
        return
    if drafter.method in {"model", "eagle3"} and drafter.model is None:
        head = drafter.method == "eagle3"
        yield Problem(
            "spec.drafter.model",
            f"is required with method {drafter.method}",
            f"add model: {'the folder or hub id of a head made for the target' if head else 'Qwen/Qwen3-1.7B'}, set method to ngram, or leave the drafter out",
        )
    if drafter.method in {"mtp", "ngram"} and drafter.model is not None:
        yield Problem(
            "spec.drafter.model",
            f"method {drafter.method} takes no model, but model is {drafter.model}",
            "leave model out, or set method to model",
        )
    if drafter.method != "model" and drafter.quantization is not None:
        what = "has no weights" if drafter.method == "ngram" else "reads little more than its own head"
        yield Problem(
            "spec.drafter.quantization",
            f"is for draft models, and method {drafter.method} {what}",
            "leave quantization out",
        )
    if drafter.method != "model" and drafter.window is not None:
        yield Problem(
            "spec.drafter.window",
            f"is for draft models, and method {drafter.method} has {'no KV' if drafter.method == 'ngram' else 'one layer of it'}",
            "leave window out",
        )
    if drafter.method != "model" and drafter.kv_dtype != "auto":
        yield Problem(
            "spec.drafter.kvDtype",
            f"is for draft models, and method {drafter.method} has {'no KV' if drafter.method == 'ngram' else 'one layer of it'}",
            "leave kvDtype out",
        )
    if drafter.window is not None and job.spec.decoding.acceptance_rule == "rejection":
        yield Problem(
            "spec.drafter.window",
            "when a row's window moves hangs on the rows beside it, and by acceptanceRule rejection so would what is drawn",
            "leave window out, or set decoding.acceptanceRule to coupled",
        )
    if drafter.prompt_lookup_min > drafter.prompt_lookup_max:
        yield Problem(
            "spec.drafter.promptLookupMin",
            f"{drafter.prompt_lookup_min} is more than promptLookupMax, which is {drafter.prompt_lookup_max}",
            "lower it, or raise promptLookupMax",
        )


@rule("drafter")
def _drafter_reference_can_be_meant(job: SpecBatchJob) -> Iterator[Problem]:
    drafter = job.spec.drafter
    if drafter is not None and drafter.method != "ngram" and drafter.model is not None:
        yield from _reference("spec.drafter", drafter.model, drafter.revision)


def _reference(path: str, model: str, revision: str | None) -> Iterator[Problem]:
    if "://" in model:
        hub = model.partition("huggingface.co/")[2].strip("/")
        remedy = f"write the hub id: {'/'.join(hub.split('/')[:2])}" if hub else "download it, and give the folder"
        yield Problem(f"{path}.model", f"{model} is a URL, and a model is a hub id or a folder", remedy)
    elif model.startswith("embedded:") and model not in _EMBEDDED:
        guess = nearest(model, _EMBEDDED) or _EMBEDDED[0]
        yield Problem(f"{path}.model", f"there is no model {model} inside the package", f"did you mean {guess}?")
    if revision is not None and model.startswith(("embedded:", "/", "./", "../", "~")):
        yield Problem(
            f"{path}.revision",
            f"only a hub id has revisions, but model is {model}",
            "leave revision out, or give the hub id",
        )


@rule("placement.ratio", "placement.strategy")
def _ratio_goes_with_its_strategy(job: SpecBatchJob) -> Iterator[Problem]:
    placement = job.spec.placement
    if placement.strategy == "multi_gpu_ratio" and placement.ratio is None:
        yield Problem(
            "spec.placement.ratio",
            "strategy multi_gpu_ratio needs a ratio",
            "add ratio: {target: 6, drafter: 2} with numbers that add up to gpus / replicas",
        )
    if placement.strategy != "multi_gpu_ratio" and placement.ratio is not None:
        yield Problem(
            "spec.placement.ratio",
            f"a ratio is only for strategy multi_gpu_ratio, but placement.strategy is {placement.strategy}",
            "set placement.strategy to multi_gpu_ratio, or leave ratio out",
        )


@rule("placement.gpus", "placement.strategy", "placement.replicas")
def _cpu_takes_one_shared_placement(job: SpecBatchJob) -> Iterator[Problem]:
    placement = job.spec.placement
    if placement.gpus == 0 and placement.strategy not in {"same", "auto"}:
        yield Problem(
            "spec.placement.strategy",
            f"{placement.strategy} needs GPUs, but placement.gpus is 0 (the CPU)",
            "set placement.gpus, or strategy to auto",
        )
    if placement.gpus == 0 and placement.replicas not in {1, "auto"}:
        yield Problem(
            "spec.placement.replicas",
            f"{placement.replicas} replicas need as many GPUs, but placement.gpus is 0 (the CPU)",
            "leave replicas out",
        )


@rule("placement.gpus", "placement.replicas", "placement.strategy")
def _replicas_divide_the_gpus(job: SpecBatchJob) -> Iterator[Problem]:
    placement = job.spec.placement
    if placement.strategy == "same" or placement.replicas == "auto":
        return  # same has a stronger rule
    if placement.gpus % placement.replicas:
        yield Problem(
            "spec.placement.replicas",
            f"{placement.gpus} GPUs cannot be divided evenly among {placement.replicas} replicas",
            f"choose one of {', '.join(str(n) for n in range(1, placement.gpus + 1) if placement.gpus % n == 0)}",
        )


@rule("placement.gpus", "placement.replicas", "placement.strategy", "placement.ratio")
def _strategy_uses_every_gpu(job: SpecBatchJob) -> Iterator[Problem]:
    placement = job.spec.placement
    if placement.gpus == 0:
        return  # the CPU has rules of its own
    if placement.strategy == "same" and placement.replicas not in {placement.gpus, "auto"}:
        yield Problem(
            "spec.placement.replicas",
            f"same uses one GPU a replica, but placement.gpus is {placement.gpus} and replicas is {placement.replicas}",
            f"set replicas to {placement.gpus} or auto, or placement.gpus to {placement.replicas}",
        )
    if placement.strategy == "separate" and not _fills(placement, 2):
        yield Problem(
            "spec.placement.gpus",
            f"separate uses two GPUs a replica, but placement.{_share(placement)}",
            "set placement.gpus to 2 for each replica"
            + (f", or replicas to {placement.gpus // 2}" if placement.gpus % 2 == 0 else ""),
        )
    ratio = placement.ratio
    if placement.strategy == "multi_gpu_ratio" and ratio and not _fills(placement, ratio.target + ratio.drafter):
        total = ratio.target + ratio.drafter
        wanted = placement.gpus if placement.replicas == "auto" else placement.gpus // placement.replicas
        remedy = f"choose target and drafter so that they add up to {wanted}" if wanted >= 2 else "use more GPUs"
        if placement.replicas == 1 or (placement.replicas == "auto" and total > placement.gpus):
            remedy += f", or set placement.gpus to {total}"
        yield Problem(
            "spec.placement.ratio",
            f"target {ratio.target} + drafter {ratio.drafter} = {total}, but placement.{_share(placement)}",
            remedy,
        )


def _fills(placement: PlacementSpec, gpus_a_replica: int) -> bool:
    """Whether replicas of so many GPUs use them all; replicas that do not divide the GPUs are another rule's."""
    if placement.replicas == "auto":
        return placement.gpus % gpus_a_replica == 0
    return bool(placement.gpus % placement.replicas) or placement.gpus == gpus_a_replica * placement.replicas


def _share(placement: PlacementSpec) -> str:
    if placement.replicas in {1, "auto"}:
        return f"gpus is {placement.gpus}"
    assert isinstance(placement.replicas, int)
    share = placement.gpus // placement.replicas
    return f"gpus / placement.replicas is {placement.gpus} / {placement.replicas} = {share}"


@rule("placement.microBatches", "placement.gpus", "placement.strategy")
def _groups_of_rows_need_several_gpus(job: SpecBatchJob) -> Iterator[Problem]:
    placement = job.spec.placement
    if placement.micro_batches in {"auto", 1} or job.spec.engine.name == "vllm":  # a rule of its own
        return
    if placement.gpus <= 1 or placement.strategy == "same":
        found = f"gpus is {placement.gpus}" if placement.gpus <= 1 else "strategy same has one a replica"
        yield Problem(
            "spec.placement.microBatches",
            f"{placement.micro_batches} groups of rows are at work at once on several GPUs of a replica, but {found}: each would only read the weights again",
            "leave microBatches out, or spread the pair: strategy separate or multi_gpu_ratio",
        )


@rule("placement.drafterReplicas", "placement.strategy", "placement.ratio", "placement.microBatches", "drafter")
def _drafters_divide_their_gpus(job: SpecBatchJob) -> Iterator[Problem]:
    placement, drafter, path = job.spec.placement, job.spec.drafter, "spec.placement.drafterReplicas"
    count, ratio, groups = placement.drafter_replicas, placement.ratio, placement.micro_batches
    if not isinstance(count, int) or count == 1:
        return
    if placement.strategy != "multi_gpu_ratio":
        said = f"{count} drafters share the GPUs of ratio.drafter, but placement.strategy is {placement.strategy}"
        yield Problem(path, said, "leave drafterReplicas out, or set strategy to multi_gpu_ratio and a ratio")
    elif ratio is not None and ratio.drafter % count:
        fitting = ", ".join(str(n) for n in range(1, ratio.drafter + 1) if ratio.drafter % n == 0)
        yield Problem(
            path,
            f"ratio.drafter {ratio.drafter} cannot be divided evenly among {count} drafters",
            f"choose one of {fitting}, or auto",
        )
    if drafter is not None and drafter.method in {"eagle3", "mtp"}:
        yield Problem(path, "a head drafts from hidden states on the target's own GPU, so there is one", "leave it out")
    if isinstance(groups, int) and groups < count:
        said = f"each of {count} drafters has groups of rows of its own, but placement.microBatches is {groups}"
        yield Problem(path, said, f"raise microBatches to {count} or more, or set it to auto")


@rule("placement.strategy", "drafter")
def _two_sided_strategies_need_a_drafter_model(job: SpecBatchJob) -> Iterator[Problem]:
    strategy, drafter = job.spec.placement.strategy, job.spec.drafter
    if strategy in {"separate", "multi_gpu_ratio"} and (drafter is None or drafter.method == "ngram"):
        found = "there is no drafter" if drafter is None else "the n-gram drafter needs no GPU"
        yield Problem(
            "spec.placement.strategy",
            f"{strategy} places a drafter model on GPUs of its own, but {found}",
            "set drafter.model, or use strategy same or auto",
        )
