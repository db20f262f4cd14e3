"""What the planner tells people: what does not fit and what to change, what was assumed, and what would be faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specbatch.plan.memory import most_length, most_rows, shortage
from specbatch.plan.question import Question
from specbatch.plan.strategy import Layout, lay_out
from specbatch.plan.types import Alternative, Ceiling, DeviceUse


def problems_of(question: Question, layout: Layout, uses: Sequence[DeviceUse], rows: int) -> Iterator[str]:
    """One sentence for each thing wrong, the last of them what to change."""
    for shape in (question.target, question.drafter):
        if shape is not None and shape.max_positions is not None and question.max_length > shape.max_positions:
            yield (
                f"spec.batching.maxLength is {question.max_length}, but {shape.name} knows {shape.max_positions} positions:"
                " lower it"
            )
    lacking = shortage(uses)
    if lacking:
        yield from lacking
        yield _what_to_change(question, layout, rows)


def _what_to_change(question: Question, layout: Layout, rows: int) -> str:
    replicas = layout.replicas(question.target, question.drafter)
    length, k = question.max_length, question.max_k
    fitting = most_rows(replicas, question.gpus, max_length=length, max_k=k, cap=rows)
    if fitting:
        return f"to change: spec.batching.maxSequences {fitting} fits (auto chooses it); or a smaller maxLength"
    shorter = most_length(replicas, question.gpus, rows=1, max_k=k, max_length=length)
    if shorter > k:
        return f"to change: not even one row of {length} tokens fits; spec.batching.maxLength {shorter} would"
    enough = _enough_gpus(question)
    more = f"placement.gpus {enough} with strategy auto is enough" if enough else "no number of these GPUs is enough"
    return (
        f"to change: not even the weights fit; {more}; else GPUs with more memory, a smaller model, or dtype bfloat16"
    )


def _enough_gpus(question: Question) -> int | None:
    """The fewest GPUs of the first one's kind over which one row fits, the layers split; None where 64 are too few."""
    gpu = next(iter(question.gpus.values()))
    if gpu.is_cpu:
        return None
    for count in range(2, 65):
        devices = {f"cuda:{index}": gpu for index in range(count)}
        ratio = (count - 1, 1) if question.drafter else (count, 0)
        layout = lay_out("multi_gpu_ratio", tuple(devices), ratio=ratio, has_drafter=question.drafter is not None)
        replicas = layout.replicas(question.target, question.drafter)
        if most_rows(replicas, devices, max_length=question.max_length, max_k=question.max_k, cap=1):
            return count
    return None


def notes_of(
    question: Question, layout: Layout, overrides: Sequence[str], *, rows: int, tokens: int | None
) -> Iterator[str]:
    """What was assumed or overridden, and where rows share less KV (`tokens`) than all would need at their longest."""
    if overrides:
        yield f"overridden by the environment: {' '.join(overrides)}"
    for role, shape in (("target", question.target), ("drafter", question.drafter)):
        if shape is not None:
            yield f"{role} {shape.name}: {shape.source or 'shape as given'}"
            if not shape.known_layout:
                yield (
                    f"{role} {shape.name}: model type {shape.architecture!r} is estimated, as if built like Llama:"
                    " transformers is not installed here, or cannot build it"
                )
            if shape.parts is not None and not shape.parts.kv_counted:
                yield f"{role} {shape.name}: its KV is estimated from its config, since no forward could be traced"
            if shape.parts is not None and shape.num_experts:
                yield (
                    f"{role} {shape.name}: {shape.experts_per_token} of {shape.num_experts} experts a token; a step is taken to"
                    " read as many different ones as its tokens ask for"
                )
    if tokens is not None and tokens < rows * question.max_length:
        yield (
            f"{rows} rows share pages of KV for {tokens:,} tokens, {tokens // rows:,} a row where the longest has"
            f" {question.max_length:,}: when they run out, rows go back to wait, and lose nothing but their prefill"
        )
    idle = [device for device in question.gpus if device not in layout.devices]
    if idle:
        yield f"idle: {', '.join(idle)} ({len(idle)} of {len(question.gpus)} GPUs do nothing in this placement)"
    if next(iter(question.gpus.values())).is_cpu:
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
