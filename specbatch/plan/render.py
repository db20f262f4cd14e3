"""A plan as plain lines: no colour, nothing cut off, the same on a terminal and in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from specbatch.formatting import format_table
from specbatch.plan.advice import describe
from specbatch.plan.memory import gib
from specbatch.plan.types import Alternative, DeviceUse, ModelPlacement, Plan, ReplicaPlan, Stage


def render(plan: Plan) -> Iterator[str]:
    """The lines that `specbatch plan` prints."""
    yield from _headline(plan)
    uses = {use.device: use for use in plan.devices}
    for number, (replica, alike) in enumerate(_alike_replicas(plan, uses)):
        yield ""
        yield from _replica(plan, replica, alike, uses, first=number == 0)
    yield ""
    yield "Environment"
    yield from (f"  {name}={value}" for name, value in plan.env_strings.items())
    yield ""
    yield from _fit(plan)
    yield ""
    yield from _ceilings(plan)
    yield ""
    yield plan.recommendation
    if plan.notes:
        yield ""
        yield "Notes"
        yield from (f"  {note}" for note in plan.notes)


def _headline(plan: Plan) -> Iterator[str]:
    count = len(plan.replicas)
    copies = "" if count == 1 else f"{count} replicas, each "
    rows = "1 row" if plan.max_sequences == 1 else f"{plan.max_sequences} rows"
    yield f"Placement: {plan.strategy}, {copies}{rows} at once of up to {plan.max_length} tokens"


def _alike_replicas(plan: Plan, uses: dict[str, DeviceUse]) -> list[tuple[ReplicaPlan, list[ReplicaPlan]]]:
    """Each first of its kind, with all that differ from it in their device names alone."""

    def shown(replica: ReplicaPlan) -> tuple[object, ...]:
        stages = [(s.first_layer, s.last_layer, uses[s.device].gpu) for model in replica.models for s in model.stages]
        return stages, [uses[device].free_bytes for device in replica.devices]

    groups = (list(group) for _, group in groupby(plan.replicas, key=shown))
    return [(group[0], group) for group in groups]


def _replica(
    plan: Plan, replica: ReplicaPlan, alike: Sequence[ReplicaPlan], uses: dict[str, DeviceUse], *, first: bool
) -> Iterator[str]:
    if len(plan.replicas) > 1:
        where = " | ".join(_span(one.devices) for one in alike)
        yield f"Replica, {len(alike)} alike: {where}"
    yield from _tree("target", replica.target, uses)
    if replica.drafter:
        yield from _tree("drafter", replica.drafter, uses)
    elif first:
        yield "drafter: no model, so no GPU"


def _tree(role: str, model: ModelPlacement, uses: dict[str, DeviceUse]) -> Iterator[str]:
    yield f"{role} {model.model}: weights {gib(model.weight_bytes)}, KV {gib(model.kv_bytes)}"
    rows = []
    for stage in model.stages:
        use, branch = uses[stage.device], "└──" if stage is model.stages[-1] else "├──"
        name = stage.device if use.gpu == "CPU" else f"{stage.device} {use.gpu}"
        sizes = (("weights", stage.weight_bytes), ("KV", stage.kv_bytes), ("free", use.free_bytes))
        rows.append((f"{branch} {name}", _part(stage), *(f"{word} {gib(size):>9}" for word, size in sizes)))
    yield from format_table(rows, left=range(5))


def _part(stage: Stage) -> str:
    """The part of the model on this device: `embedding, layers 0-6`."""
    parts = ["embedding"] if stage.has_embedding else []
    if stage.num_layers == 1:
        parts.append(f"layer {stage.first_layer}")
    elif stage.num_layers > 1:
        parts.append(f"layers {stage.first_layer}-{stage.last_layer}")
    if stage.has_head:
        parts.append("head")
    return ", ".join(parts) or "nothing: more GPUs than layers"


def _span(devices: Sequence[str]) -> str:
    return devices[0] if len(devices) == 1 else f"{devices[0]} to {devices[-1]}"


def _fit(plan: Plan) -> Iterator[str]:
    reserve = max(use.reserve_bytes for use in plan.devices)
    least = min(use.free_bytes for use in plan.devices)
    if plan.fits:
        yield f"Memory: fits, {gib(least)} free on the fullest device; {gib(reserve)} set aside for activations and the driver"
    else:
        yield "Memory: does NOT fit"
    if plan.problems:
        yield ""
        yield "Problems"
        yield from (f"  {problem}" for problem in plan.problems)


def _ceilings(plan: Plan) -> Iterator[str]:
    ceiling, drafts = plan.ceiling, plan.speculation.max_k > 0
    assumed = f"acceptance {ceiling.acceptance_rate:g}, " if drafts else ""
    yield (
        f"Ceilings in tokens/s, all replicas together (nominal bandwidth and arithmetic, {assumed}"
        f"{ceiling.mean_length} tokens in an average row's cache)"
    )
    header = ("", "placement", "rows", "k", "target alone", "with drafts", "pipelined")
    shown = (0, 1, 2, 3, 4, 5, 6) if drafts else (0, 1, 2, 4, 6)
    rows = [header, *(_ceiling_cells(one) for one in plan.alternatives)]
    yield from format_table([[row[column] for column in shown] for row in rows], left=(0, 1))
    yield (
        "   rows: in flight in one replica. pipelined: with as many micro-batches in flight as pay"
        + ("; with drafts: with one, at the best k" if drafts else "; target alone: with one")
    )


def _ceiling_cells(one: Alternative) -> tuple[str, ...]:
    mark = "*" if one.chosen else " "
    if one.ceiling is None:
        return (mark, describe(one), "-", "-", "does not fit", "-", "-")
    ceiling = one.ceiling
    return (
        mark,
        describe(one),
        str(one.max_sequences),
        str(ceiling.num_speculative_tokens) if one.with_drafter else "-",
        f"{ceiling.target_only:,.0f}",
        f"{ceiling.tokens_per_second:,.0f}" if one.with_drafter else "-",
        f"{ceiling.pipelined_tokens_per_second:,.0f}",
    )
