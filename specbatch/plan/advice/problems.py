"""What a plan says in words: what does not fit and what to change, and what was assumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from specbatch.plan.candidates import Candidate
from specbatch.plan.device_map import place_replicas
from specbatch.plan.layouts import lay_out
from specbatch.plan.memory import largest, memory_fit, shortages
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.types import DeviceUse


def problems_of(chosen: Candidate, uses: Sequence[DeviceUse]) -> Iterator[str]:
    """One sentence for each thing wrong, the last of them what to change."""
    max_length = chosen.request.max_length
    for shape in chosen.request.models.values():
        if shape.max_positions is not None and max_length > shape.max_positions:
            yield f"spec.batching.maxLength is {max_length}, but {shape.name} knows {shape.max_positions} positions: lower it"
    lacking = list(shortages(uses))
    if lacking:
        yield from lacking
        sentence, changes = ways_to_fit(chosen)
        yield f"{sentence}: {' '.join(f'--set {one}' for one in changes)}" if changes else sentence


def ways_to_fit(chosen: Candidate) -> tuple[str, tuple[str, ...]]:
    """What to change where a placement does not fit: a sentence, and the same as `--set` takes it; no change where none is enough."""
    request, memory = chosen.request, chosen.memory
    fitting = memory.most_rows(chosen.rows)
    if fitting:
        change = f"batching.maxSequences={fitting}"
        return f"{chosen.rows} rows at once do not fit, {fitting} would (and more of them with a smaller maxLength)", (
            change,
        )
    shorter = largest(lambda length: replace(memory, max_length=length).fits(1), memory.max_length)
    if shorter > memory.max_k:
        change = f"batching.maxLength={shorter}"
        return f"not even one row of {memory.max_length} tokens fits, one of {shorter} would", (change,)
    enough = _enough_gpus(request)
    others = "else GPUs with more memory, a smaller model, or dtype bfloat16"
    if enough is None:
        return f"not even the weights fit, and no number of these GPUs is enough; {others}", ()
    changes = (f"placement.gpus={enough}", "placement.strategy=auto")
    return f"not even the weights fit; over {enough} of these GPUs they would; {others}", changes


def _enough_gpus(request: PlanRequest) -> int | None:
    """The fewest GPUs of the first one's kind over which one row fits, the layers split; None where 64 are too few."""
    gpu = next(iter(request.gpus.values()))
    has_drafter = request.drafter is not None
    can_split = not gpu.is_cpu and all(shape.known_layout for shape in request.models.values())
    for count in range(2, 65) if can_split else ():
        devices = {f"cuda:{index}": gpu for index in range(count)}
        ratio = (count - 1, 1) if has_drafter else (count, 0)
        layout = lay_out("multi_gpu_ratio", tuple(devices), ratio=ratio, has_drafter=has_drafter)
        replicas = place_replicas(layout, request.target, request.drafter, gpus=devices)
        if memory_fit(replace(request, gpus=devices), replicas).fits(1):
            return count
    return None


def notes_of(chosen: Candidate, variables: Sequence[str]) -> Iterator[str]:
    """What was assumed or overridden, and where rows share less KV than all would need at their longest."""
    request, rows = chosen.request, chosen.rows
    if variables:
        yield f"overridden by the environment: {' '.join(variables)}"
    for role, shape in request.models.items():
        yield from _notes_of_model(f"{role} {shape.name}", shape, on_gpus="cpu" not in request.gpus)
    tokens = chosen.memory.kv_tokens(rows)
    if chosen.fits and tokens < rows * request.max_length:
        yield (
            f"{rows} rows share pages of KV for {tokens:,} tokens, {tokens // rows:,} a row where the longest has"
            f" {request.max_length:,}: when they run out, rows go back to wait, and lose nothing but their prefill"
        )
    target, sliding = request.target, chosen.memory.sliding_tokens(rows)
    if chosen.fits and sliding:
        windowed = sum(layer.window > 0 for layer in target.layers)
        yield (
            f"{windowed} of the target's {target.num_layers} layers look back {target.largest_window:,} tokens and hold KV for no more than"
            f" {chosen.memory.sliding_tokens_a_row:,} of a row"
        )
    drafters = chosen.replicas[0].drafters
    each = [one.devices if len(drafters) > 1 else () for one in drafters]
    of_drafter = sum(chosen.memory.drafter_kv_tokens(rows, devices) for devices in each)
    if chosen.fits and drafters and of_drafter < tokens:
        yield f"the drafter's GPUs hold KV for {of_drafter:,} tokens of {tokens:,}: while it is full, rows go on without drafts"
    idle = [device for device in request.gpus if device not in chosen.layout.devices]
    if idle:
        yield f"idle: {', '.join(idle)} ({len(idle)} of {len(request.gpus)} GPUs do nothing in this placement)"
    used = {gpu for device, gpu in request.gpus.items() if device in chosen.layout.devices}
    yield from (f"GPU {gpu.name} {gpu.remark}" for gpu in sorted(used, key=lambda gpu: gpu.name) if gpu.remark)
    if "cpu" in request.gpus and not request.slowdown:
        yield "the ceiling of a CPU is a rough guess: bandwidth and arithmetic of a common server"


def _notes_of_model(model: str, shape: ModelShape, *, on_gpus: bool) -> Iterator[str]:
    """What was assumed of a model, and why it is slow."""
    yield f"{model}: {shape.source or 'shape as given'}"
    if not shape.known_layout:
        yield (
            f"{model}: model type {shape.architecture!r} is estimated, as if built like Llama:"
            " transformers is not installed here, or cannot build it"
        )
    if shape.mtp_layers:
        yield (
            f"{model}: it brings {shape.mtp_layers} layer{'s' if shape.mtp_layers > 1 else ''} for drafting (MTP),"
            + (
                " of which the first drafts with `drafter: {method: mtp}`"
                if shape.mtp is not None
                else " not loaded here: drafts are those of spec.drafter (a model, an EAGLE-3 head, ngram)"
            )
        )
    if on_gpus and shape.why_general is not None and not shape.foreign:
        yield (
            f"{model}: the pair runs by transformers' own modules, several times slower than recorded rounds,"
            f" since {shape.why_general}"
        )
    if shape.widened and not on_gpus:
        yield f"{model}: {shape.widened}"
    if shape.fp8_kv:
        plain = replace(shape, fp8_kv=False).kv_bytes_per_token
        yield f"{model}: keys and values in FP8, {shape.kv_bytes_per_token:,} bytes a token in place of {plain:,}"
    if not shape.kv_traced:
        yield f"{model}: its KV is estimated from its config, since no forward could be traced"
    if shape.counted and shape.num_experts:
        yield (
            f"{model}: {shape.experts_per_token} of {shape.num_experts} experts a token; the tokens of a step"
            " are taken to choose theirs evenly, each for itself"
        )
