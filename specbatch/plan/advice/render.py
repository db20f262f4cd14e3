"""A plan as plain lines of at most 100 columns: no colour, the same on a terminal and in a file. What to do comes first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from specbatch.formatting import format_table, pluralize
from specbatch.plan.advice.timeline import draw, legend
from specbatch.plan.memory import COUNTED_ROWS, gib
from specbatch.plan.predicted import Timeline
from specbatch.plan.types import Alternative, DeviceUse, Plan, Recommendation, ReplicaPlan, Stage

_COLUMNS = 100
_NOTHING = 100 << 20  # bytes: less is what KV by whole pages does not take


def render(plan: Plan) -> Iterator[str]:
    """The lines that `specbatch plan` prints."""
    yield from _refusal(plan) if plan.refused else _recommendation(plan.recommendation)
    yield ""
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
    if not plan.refused:
        yield ""
        yield from _ceilings(plan)
    if plan.timeline and not plan.refused:
        yield ""
        yield from _timeline(plan, plan.timeline)
    if plan.notes:
        yield ""
        yield "Notes"
        yield from _list(plan.notes)


def _refusal(plan: Plan) -> Iterator[str]:
    """That nothing of what follows will run here, why, and what to do."""
    yield from textwrap.wrap(f"Will not run here: {plan.refused}", _COLUMNS, subsequent_indent="  ")
    yield from _list([f"Remedy: {plan.recommendation.reason}"])


def _recommendation(advised: Recommendation) -> Iterator[str]:
    """What to run, how, and why."""
    if advised.placement is None:
        yield f"Recommended: {'what fits' if advised.changes else 'other GPUs, or other models'}"
    else:
        as_it_is = "" if advised.changes or advised.unset else "the spec as it is, "
        headline = f"Recommended: {as_it_is}{advised.placement} ({advised.meaning})"
        yield from textwrap.wrap(headline, _COLUMNS, subsequent_indent="  ")
    if advised.unset:
        yield f"  unset {' '.join(advised.unset)}"
    if advised.changes:
        words = ["  Add to run, submit or plan:", *(f"--set {change}" for change in advised.changes)]
        yield (" " if len(" ".join(words)) <= _COLUMNS else " \\\n    ").join(words).replace(": \\", ":", 1)
    yield from _list((f"{advised.reason[:1].upper()}{advised.reason[1:]}", *advised.advice))


def _list(sentences: Sequence[str]) -> Iterator[str]:
    """Each as a paragraph; `--set path=value` stays on one line."""
    for sentence in sentences:
        lines = textwrap.wrap(
            sentence.replace("--set ", "--set\0"),
            _COLUMNS,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from (line.replace("\0", " ") for line in lines)


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
    yield from _tree(replica, uses)
    if not replica.drafter and first:
        yield "drafter: no model, so no GPU"


def _tree(replica: ReplicaPlan, uses: dict[str, DeviceUse]) -> Iterator[str]:
    """A line a device: the weights and the KV of a model there, and what stays free of the device and how many rows it has room for, all models counted."""
    names: list[str] = []
    sizes: list[tuple[str, ...]] = []
    roles = ["target", "drafter"]
    if replica.more_drafters:
        roles = ["target", *(f"drafter {number + 1}," for number in range(len(replica.drafters)))]
    for role, model in zip(roles, replica.models, strict=False):
        parts = []
        names.append(f"{role} {model.model}{', weights in ' + model.quantization if model.quantization else ''}")
        sizes.append(("",) * 4 if names[1:] else ("weights", "KV", "free", "rows"))
        for stage in model.stages:
            use, branch = uses[stage.device], "└──" if stage is model.stages[-1] else "├──"
            name = stage.device if use.gpu == "CPU" else f"{stage.device} {use.gpu}"
            parts.append((f"{branch} {name}", _part(stage)))
            sizes.append(
                (
                    gib(stage.weight_bytes),
                    gib(stage.kv_bytes),
                    gib(use.free_bytes),
                    f"{use.rows:,}{'+' if use.rows == COUNTED_ROWS else ''}",
                )
            )
        names += format_table(parts, left=(0, 1))
        if len(parts) > 1:
            names.append("    in all")
            sizes.append((gib(model.weight_bytes), gib(model.kv_bytes), "", ""))
    yield from format_table([(name, *of) for name, of in zip(names, sizes, strict=True)], left=(0,))


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
    fullest = min(plan.devices, key=lambda use: use.free_bytes)
    if plan.fits:
        parts = ", ".join(f"{name} {gib(size)}" for name, size in fullest.reserve.items() if size)
        left = f"{gib(fullest.free_bytes)} free" if fullest.free_bytes > _NOTHING else "KV takes all that is left"
        yield f"Memory: fits, {left} on the fullest device, {fullest.device}"
        yield from _list([f"{gib(fullest.reserve_bytes)} there is set aside: {parts}", plan.rows_limit])
    else:
        yield "Memory: does NOT fit"
    if plan.problems:
        yield ""
        yield "Problems"
        yield from _list(plan.problems)


def _ceilings(plan: Plan) -> Iterator[str]:
    ceiling, drafts = plan.ceiling, plan.speculation.max_k > 0
    groups = any(one.ceiling and one.ceiling.groups > 1 for one in plan.alternatives)
    yield (
        "Predicted tokens/s, all replicas together, from the step times of a run"
        if plan.slowdown
        else "Ceilings in tokens/s, all replicas together, from data sheets: an H100 reached 0.54 to 0.74 of them"
    )
    header = ("", "placement", "rows", "groups", "k", "target alone", "with drafts")
    shown = [0, 1, 2, *([3] if groups else []), *([4, 5, 6] if drafts else [5])]
    rows = [header, *(_ceiling_cells(one) for one in plan.alternatives)]
    yield from format_table([[row[column] for column in shown] for row in rows], left=(0, 1))
    acceptance = f"acceptance {ceiling.acceptance_rate:.3g}, " if drafts else ""
    known = "for" if plan.slowdown else "assumed:"
    yield f"   {known} {acceptance}a cache of {ceiling.mean_length} tokens a row, no prefill. rows: at once, in one replica"
    if plan.slowdown:
        times = ", ".join(f"{times:.1f} of the {role}" for role, times in plan.slowdown.items() if role in plan.models)
        yield f"   steps took this many times what data sheets allow: {times}"
    if groups:
        yield "   groups: parts of these rows that are in flight at the same time, each on another GPU"


def _timeline(plan: Plan, timeline: Timeline) -> Iterator[str]:
    one, rate = plan.ceiling.one_group, plan.ceiling.tokens_per_second
    gain = f", {rate / one:.2f} times one group's" if one and timeline.groups > 1 else ""
    headline = (
        f"A cycle of {pluralize(timeline.groups, 'group')} of rows in flight, k = {timeline.k}, predicted: {1e3 * timeline.seconds:.1f} ms,"
        f" {timeline.tokens_per_second:,.0f} tokens/s a replica{gain}"
    )
    yield from textwrap.wrap(headline, _COLUMNS, subsequent_indent="  ")
    yield from (f"  {line}" for line in draw(timeline))
    yield from _list([legend(timeline)])


def _ceiling_cells(one: Alternative) -> tuple[str, ...]:
    mark = "*" if one.chosen else " "
    if one.ceiling is None:
        return (mark, one.describe(), "-", "-", "-", "does not fit", "-")
    ceiling = one.ceiling
    return (
        mark,
        one.describe(),
        str(one.max_sequences),
        str(ceiling.groups),
        str(ceiling.num_speculative_tokens) if one.with_drafter else "-",
        f"{ceiling.target_only:,.0f}",
        f"{ceiling.tokens_per_second:,.0f}" if one.with_drafter else "-",
    )
