"""What a plan says in words: what does not fit and what to change, what was assumed, and what would be faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from specbatch.plan.candidates import Candidate
from specbatch.plan.device_map import place_replicas
from specbatch.plan.layouts import lay_out
from specbatch.plan.memory import largest, memory_fit, shortages
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.types import Alternative, Ceiling, DeviceUse


def problems_of(chosen: Candidate, uses: Sequence[DeviceUse]) -> Iterator[str]:
    """One sentence for each thing wrong, the last of them what to change."""
    max_length = chosen.request.max_length
    for shape in chosen.request.models.values():
        if shape.max_positions is not None and max_length > shape.max_positions:
            yield f"spec.batching.maxLength is {max_length}, but {shape.name} knows {shape.max_positions} positions: lower it"
    lacking = list(shortages(uses))
    if lacking:
        yield from lacking
        yield _what_to_change(chosen)


def _what_to_change(chosen: Candidate) -> str:
    request, memory = chosen.request, chosen.memory
    fitting = memory.most_rows(chosen.rows)
    if fitting:
        return f"to change: spec.batching.maxSequences {fitting} fits (auto chooses it); or a smaller maxLength"
    shorter = largest(lambda length: replace(memory, max_length=length).fits(1), memory.max_length)
    if shorter > memory.max_k:
        return (
            f"to change: not even one row of {memory.max_length} tokens fits; spec.batching.maxLength {shorter} would"
        )
    enough = _enough_gpus(request)
    more = f"placement.gpus {enough} with strategy auto is enough" if enough else "no number of these GPUs is enough"
    return (
        f"to change: not even the weights fit; {more}; else GPUs with more memory, a smaller model, or dtype bfloat16"
    )


def _enough_gpus(request: PlanRequest) -> int | None:
    """The fewest GPUs of the first one's kind over which one row fits, the layers split; None where 64 are too few."""
    gpu = next(iter(request.gpus.values()))
    has_drafter = request.drafter is not None
    can_split = not gpu.is_cpu and all(shape.known_layout for shape in request.models.values())
    for count in range(2, 65) if can_split else ():
        devices = {f"cuda:{index}": gpu for index in range(count)}
        ratio = (count - 1, 1) if has_drafter else (count, 0)
        layout = lay_out("multi_gpu_ratio", tuple(devices), ratio=ratio, has_drafter=has_drafter)
        replicas = place_replicas(layout, request.target, request.drafter)
        if memory_fit(replace(request, gpus=devices), replicas).fits(1):
            return count
    return None


def notes_of(chosen: Candidate, variables: Sequence[str]) -> Iterator[str]:
    """What was assumed or overridden, and where rows share less KV than all would need at their longest."""
    request, rows = chosen.request, chosen.rows
    if variables:
        yield f"overridden by the environment: {' '.join(variables)}"
    for role, shape in request.models.items():
        yield f"{role} {shape.name}: {shape.source or 'shape as given'}"
        if not shape.known_layout:
            yield (
                f"{role} {shape.name}: model type {shape.architecture!r} is estimated, as if built like Llama:"
                " transformers is not installed here, or cannot build it"
            )
        if not shape.kv_traced:
            yield f"{role} {shape.name}: its KV is estimated from its config, since no forward could be traced"
        if shape.counted and shape.num_experts:
            yield (
                f"{role} {shape.name}: {shape.experts_per_token} of {shape.num_experts} experts a token; a step is taken to"
                " read as many different ones as its tokens ask for"
            )
    tokens = chosen.memory.kv_tokens(rows)
    if chosen.fits and tokens < rows * request.max_length:
        yield (
            f"{rows} rows share pages of KV for {tokens:,} tokens, {tokens // rows:,} a row where the longest has"
            f" {request.max_length:,}: when they run out, rows go back to wait, and lose nothing but their prefill"
        )
    idle = [device for device in request.gpus if device not in chosen.layout.devices]
    if idle:
        yield f"idle: {', '.join(idle)} ({len(idle)} of {len(request.gpus)} GPUs do nothing in this placement)"
    used = {gpu for device, gpu in request.gpus.items() if device in chosen.layout.devices}
    yield from (f"GPU {gpu.name} {gpu.remark}" for gpu in sorted(used, key=lambda gpu: gpu.name) if gpu.remark)
    if "cpu" in request.gpus:
        yield "the ceiling of a CPU is a rough guess: bandwidth and arithmetic of a common server"


def recommend(alternatives: Sequence[Alternative], *, drafts: bool) -> str:
    """Whether the chosen placement is the one to take, in numbers.

    Args:
        alternatives: the chosen one and the others.
        drafts: whether anything is drafted at all.
    """
    chosen = next(one for one in alternatives if one.chosen)
    fitting = [one for one in alternatives if one.ceiling is not None]
    if not fitting:
        return "No placement on these GPUs fits as asked: see what to change above."
    alike = [one for one in fitting if one.with_drafter] or fitting
    best = max(alike, key=_rate)
    if chosen.ceiling is None:
        return f"Take {describe(best)}: it fits, and its ceiling is {_rate(best):,.0f} tokens/s."
    sentences = [_against(chosen, best, alike)]
    if drafts:
        sentences.append(_of_speculation(chosen.ceiling))
        alone = [one for one in fitting if not one.with_drafter and _rate(one) > _rate(best)]
        sentences += [
            f"But {describe(one)}, with {one.max_sequences} rows in the memory that the drafter leaves, has a ceiling of"
            f" {_rate(one):,.0f}: measure both."
            for one in alone
        ]
    return " ".join(sentences)


def _against(chosen: Alternative, best: Alternative, others: Sequence[Alternative]) -> str:
    if best is not chosen and _rate(best) > 1.05 * _rate(chosen):
        name, times = describe(best), _rate(best) / _rate(chosen)
        return f"Faster: {name}, at most {_rate(best):,.0f} tokens/s, {times:.1f} times this placement's {_rate(chosen):,.0f}."
    sentence = f"This placement is the one to take: {describe(chosen)}, at most {_rate(chosen):,.0f} tokens/s"
    rest = [one for one in others if one is not chosen]
    if rest:
        second = max(rest, key=_rate)
        sentence += f" (next: {describe(second)}, {_rate(second):,.0f})"
    return f"{sentence}."


def _of_speculation(ceiling: Ceiling) -> str:
    if ceiling.tokens_per_second <= ceiling.target_only:
        return "Drafting gains nothing here: k = 0 is best."
    times, k = ceiling.tokens_per_second / ceiling.target_only, ceiling.num_speculative_tokens
    return f"Drafting gains {times:.2f} times, at k = {k}."


def describe(one: Alternative) -> str:
    """In words: `8 replicas of same`, `multi_gpu_ratio 6:2`, `4 replicas of the target alone`."""
    if not one.with_drafter:
        name = "the target alone" if one.target_gpus == 1 else f"the target alone over {one.target_gpus} GPUs"
    elif one.strategy == "multi_gpu_ratio" and not one.drafter_gpus:
        name = f"multi_gpu_ratio over {one.target_gpus} GPUs"
    elif one.strategy == "multi_gpu_ratio":
        name = f"multi_gpu_ratio {one.target_gpus}:{one.drafter_gpus}"
    else:
        name = one.strategy
    return name if one.replicas == 1 else f"{one.replicas} replicas of {name}"


def _rate(one: Alternative) -> float:
    return one.ceiling.tokens_per_second if one.ceiling else 0.0
