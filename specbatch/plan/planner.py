"""make_plan: a spec, two model shapes and the GPUs, resolved into one frozen placement with its ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specbatch.api import SpecBatchJob
from specbatch.errors import DeviceError, ModelError
from specbatch.plan.advice import notes_of, problems_of, recommend
from specbatch.plan.devices import cpu_shape
from specbatch.plan.memory import device_uses, kv_tokens, most_rows
from specbatch.plan.placing import place_replica
from specbatch.plan.question import Answer, Question, answer
from specbatch.plan.resolve import Wanted, resolve
from specbatch.plan.shape import ModelShape
from specbatch.plan.strategy import Layout, possible_layouts
from specbatch.plan.types import GpuShape, Plan

ACCEPTANCE = 0.8  # assumed of a drafter model until a run has measured it
ACCEPTANCE_OF_NGRAM = 0.3

# A layout that is less simple must promise this much more before `auto` takes it: hops and idle stages cost in practice.
_WORTH_A_SPLIT = 1.25
# Ratios whose ceilings differ by less are alike; the better balanced one wins.
_ALIKE = 0.97


def make_plan(
    job: SpecBatchJob,
    target: ModelShape,
    drafter: ModelShape | None,
    gpus: Sequence[GpuShape],
    env: Mapping[str, str] | None = None,
    *,
    acceptance_rate: float | None = None,
    mean_length: int | None = None,
) -> Plan:
    """The placement that the runner follows.

    Args:
        job: the spec.
        target: its shape.
        drafter: its shape; None without a drafter model (target alone, or n-gram lookup).
        gpus: the GPUs of one pod, cuda:0 first, as many as placement.gpus; empty or one `cpu_shape()` for the CPU.
        env: where the override variables are looked up; nothing overrides when None.
        acceptance_rate: assumed for the ceiling; 0.8 when None (0.3 of n-gram lookup).
        mean_length: tokens in the cache of an average row, assumed for the ceiling; half of maxLength when None.

    Raises:
        SpecError: the override variables are malformed, or contradict each other or the spec.
        DeviceError: the GPUs are not as many as the spec or the strategy needs.
    """
    devices = _named(job, gpus)
    wanted = resolve(job, tuple(devices), env or {}, has_drafter=drafter is not None)
    question = _question(job, target, drafter, devices, acceptance_rate, mean_length)
    best = _best_of_families(question, None, has_drafter=drafter is not None)
    if wanted.layout is not None:
        chosen = answer(question, wanted.layout)
    elif wanted.replicas is None:
        chosen = _choose(best)
    else:
        chosen = _choose(_best_of_families(question, wanted.replicas, has_drafter=drafter is not None))
    others = [one for one in best if one.layout != chosen.layout]
    if drafter is not None:
        others.append(_choose(_best_of_families(question, None, has_drafter=False)))
    return _plan(question, wanted, chosen, others)


def _named(job: SpecBatchJob, gpus: Sequence[GpuShape]) -> dict[str, GpuShape]:
    count = job.spec.placement.gpus
    if count == 0:
        return {"cpu": gpus[0] if gpus and gpus[0].is_cpu else cpu_shape()}
    real = [gpu for gpu in gpus if not gpu.is_cpu]
    if len(real) != count:
        raise DeviceError(
            f"is {count}, but there are {len(real)} GPUs",
            where="spec.placement.gpus",
            remedy=f"set placement.gpus to {len(real)}, or give the process {count} GPUs",
        )
    return {f"cuda:{index}": gpu for index, gpu in enumerate(real)}


def _question(
    job: SpecBatchJob,
    target: ModelShape,
    drafter: ModelShape | None,
    devices: Mapping[str, GpuShape],
    acceptance_rate: float | None,
    mean_length: int | None,
) -> Question:
    spec = job.spec
    k = spec.decoding.num_speculative_tokens if spec.drafter else 0
    if acceptance_rate is None:
        ngram = spec.drafter is not None and spec.drafter.method == "ngram"
        acceptance_rate = ACCEPTANCE_OF_NGRAM if ngram else ACCEPTANCE
    return Question(
        target=target,
        drafter=drafter,
        gpus=devices,
        max_length=spec.batching.max_length,
        max_k=spec.decoding.max_speculative_tokens if k == "auto" else k,
        fixed_k=None if k == "auto" else k,
        rows=None if spec.batching.max_sequences == "auto" else spec.batching.max_sequences,
        acceptance_rate=acceptance_rate,
        mean_length=mean_length or max(1, spec.batching.max_length // 2),
    )


def _best_of_families(question: Question, replicas: int | None, *, has_drafter: bool) -> list[Answer]:
    """The best answer of each family of layouts, the simplest first."""
    families = possible_layouts(tuple(question.gpus), replicas=replicas, has_drafter=has_drafter)
    answers = [
        [
            answer(question, layout, with_drafter=has_drafter or question.drafter is None)
            for layout in family
            if not _unknown_split(question, layout)
        ]
        for family in families
    ]
    return [_best_ratio(family) for family in answers if family]


def _unknown_split(question: Question, layout: Layout) -> ModelShape | None:
    """A model that the layout splits although the names of its modules are not known."""
    target, drafter = layout.pairs[0]
    for shape, devices in ((question.target, target), (question.drafter, drafter)):
        if shape is not None and len(devices) > 1 and not shape.known_layout:
            return shape
    return None


def _best_ratio(answers: Sequence[Answer]) -> Answer:
    """Of one family: the highest ceiling that fits; among those that are alike, the best balanced."""
    fitting = [answer for answer in answers if answer.fits] or list(answers)
    most = max(answer.ceiling.tokens_per_second for answer in fitting)
    alike = [answer for answer in fitting if answer.ceiling.tokens_per_second >= _ALIKE * most]
    return max(alike, key=lambda answer: answer.ceiling.pipelined_tokens_per_second)


def _choose(best: Sequence[Answer]) -> Answer:
    """`auto`: the simplest that fits, unless a later one promises clearly more; the last resort when nothing fits."""
    fitting = [answer for answer in best if answer.fits]
    if not fitting:
        return best[-1]
    chosen = fitting[0]
    for other in fitting[1:]:
        if other.ceiling.tokens_per_second > _WORTH_A_SPLIT * chosen.ceiling.tokens_per_second:
            chosen = other
    return chosen


def _plan(question: Question, wanted: Wanted, chosen: Answer, others: Sequence[Answer]) -> Plan:
    layout, rows, max_k = chosen.layout, chosen.rows, question.max_k
    unknown = _unknown_split(question, layout)
    if unknown is not None:
        raise ModelError(
            f"cannot be spread over GPUs: the modules of model type {unknown.architecture!r} are not known by name",
            where=unknown.name,
            remedy="use strategy same or separate, where every model has one GPU",
        )
    replicas = layout.replicas(question.target, question.drafter)
    sizes = {"max_length": question.max_length, "max_k": max_k}
    uses = device_uses(replicas, question.gpus, rows=rows, **sizes)
    fits = all(use.free_bytes >= 0 for use in uses)
    tokens = kv_tokens(replicas, question.gpus, rows=rows, **sizes)
    alternatives = (chosen.as_alternative(chosen=True), *(other.as_alternative() for other in others))
    return Plan(
        strategy=layout.strategy,
        replicas=tuple(place_replica(one, tokens) for one in replicas),
        max_sequences=rows,
        slot_sequences=max(1, most_rows(replicas, question.gpus, **sizes, cap=rows, slots=True)),
        max_length=question.max_length,
        env_strings=_env_strings(layout),
        fits=fits,
        problems=tuple(problems_of(question, layout, uses, rows)),
        devices=uses,
        ceiling=chosen.ceiling,
        alternatives=alternatives,
        recommendation=recommend(alternatives, drafts=max_k > 0),
        max_speculative_tokens=max_k,
        notes=tuple(notes_of(question, layout, wanted.said, rows=rows, tokens=tokens if fits else None)),
        models={
            role: _facts(shape)
            for role, shape in (("target", question.target), ("drafter", question.drafter))
            if shape is not None
        },
    )


def _env_strings(layout: Layout) -> dict[str, str]:
    """The layout as override variables."""
    targets, drafters = zip(*layout.pairs, strict=True)
    strings = {"GPU_STRATEGY": layout.strategy, "TARGET_GPU": ";".join(",".join(group) for group in targets)}
    if drafters[0]:
        strings["DRAFTER_GPU"] = ";".join(",".join(group) for group in drafters)
    if layout.strategy == "multi_gpu_ratio":
        strings["TARGET_GPU_RATIO"] = str(len(targets[0]))
        if drafters[0]:
            strings["DRAFTER_GPU_RATIO"] = str(len(drafters[0]))
    return strings


def _facts(shape: ModelShape) -> dict[str, str | int]:
    return {
        "name": shape.name,
        "architecture": shape.architecture,
        "params": shape.params,
        "layers": shape.num_layers,
        "dtype_bytes": shape.dtype_bytes,
        "weight_bytes": shape.weight_bytes,
        "step_bytes": shape.step_bytes,
        "kv_bytes_per_token": shape.kv_bytes_per_token,
        "source": shape.source,
    }
