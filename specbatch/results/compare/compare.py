"""Runs side by side: the facts of each that a researcher would write into one table, and where the comparison is not fair."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specbatch.formatting import format_duration
from specbatch.results.compare.texts import SameTexts
from specbatch.results.identity import Identity
from specbatch.results.manifest import Manifest
from specbatch.results.report.facts import RunFacts
from specbatch.results.status.status import read_status
from specbatch.results.storage.folder import Folder
from specbatch.results.summary import RunSummary, combine
from specbatch.results.totals import Totals

Value = str | int | float | bool | None
_DEVICE = re.compile(r"^\W*(?:cuda:\d+ (\S+)|(cpu))\b", re.MULTILINE)
_SHORT_SECONDS = 10.0
_REVISION_CHARS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One run: its label, where it is, and field -> value; None where it is not known. `texts` against the first run."""

    label: str
    where: str
    values: Mapping[str, Value]
    texts: SameTexts | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A row of the table and how a value is said; what is `folded` is said by another row, unless all are asked for."""

    name: str
    say: Callable[[Any], str] = str
    folded: bool = False


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _model(name: str) -> str:
    """name@revision with as much of the revision as tells it from others."""
    model, _, revision = name.partition("@")
    return f"{model}@{revision.rpartition('-')[2][:_REVISION_CHARS]}" if revision else model


def _start(text: str) -> str:
    return text[: 2 * _REVISION_CHARS]


FIELDS = (
    Field("state"),
    Field("target", _model),
    Field("target dtype"),
    Field("drafter", _model),
    Field("drafter dtype"),
    Field("method"),
    Field("k"),
    Field("acceptance rule"),
    Field("temperature"),
    Field("top p"),
    Field("top k"),
    Field("seed"),
    Field("max new tokens"),
    Field("device"),
    Field("strategy"),
    Field("GPUs"),
    Field("ratio"),
    Field("replicas"),
    Field("shards"),
    Field("dataset", _start),
    Field("rows", "{:,}".format),
    Field("batch", "{:,}".format),
    Field("tokens/s", "{:,.1f}".format),
    Field("x target alone", "{:.2f}x".format),
    Field("target alone was", folded=True),
    Field("acceptance_rate", "{:.3f}".format),
    Field("mean_acceptance_length", "{:.2f}".format),
    Field("mean k", "{:.2f}".format, folded=True),
    Field("of the ceiling", _percent),
    Field("tokens", "{:,}".format),
    Field("errors", "{:,}".format),
    Field("right answers", _percent),
    Field("decoding", format_duration),
    Field("load and warm-up", format_duration),
    Field("attempts"),
    Field("verification"),
    Field("specbatch"),
    Field("torch"),
)


def read_compared(folder: Folder, label: str) -> Compared:
    """The facts of one run, from its manifests and progress files.

    Raises:
        ResultsError: no run is there.
    """
    run = read_status(folder, time.time())
    totals = Totals()
    for shard in run.shards:
        totals += shard.totals
    each = [
        combine((attempt.summary for attempt in shard.attempts), Totals()) for shard in run.shards if shard.attempts
    ]
    summary = combine(each, totals, at_once=True)
    facts = RunFacts(status=run, totals=totals, summary=summary)
    manifest = next(iter(facts.manifests), None)
    facts.identity = manifest.identity if manifest else None
    verdicts = sorted({shard.verdict for shard in run.shards})
    values: dict[str, Value] = {
        "state": "complete" if run.success else ", ".join(verdicts),
        **_set(manifest, facts.identity),
        **_measured(facts, summary),
        "shards": len(run.shards),
        "rows": totals.rows,
        "errors": totals.errors,
        "right answers": totals.share_correct,
        "attempts": max((len(shard.attempts) for shard in run.shards), default=0),
        "verification": _verified(facts),
    }
    return Compared(
        label=label, where=folder.uri, values={field.name: _scalar(values.get(field.name)) for field in FIELDS}
    )


def _set(manifest: Manifest | None, identity: Identity | None) -> dict[str, Value]:
    """What whoever started the run decided."""
    if manifest is None or identity is None:
        return {}
    spec = _part(manifest.spec, "spec")
    decoding, placement, drafter = (_part(spec, name) for name in ("decoding", "placement", "drafter"))
    env = manifest.env
    groups = env.get("TARGET_GPU", "").split(";")
    return {
        "target": identity.models.get("target"),
        "target dtype": _part(spec, "target").get("dtype"),
        "drafter": identity.models.get("drafter", "none"),
        "drafter dtype": drafter.get("dtype") if "drafter" in identity.models else None,
        "method": drafter.get("method", "target alone") if drafter else "target alone",
        "k": decoding.get("numSpeculativeTokens") if drafter else 0,
        "acceptance rule": decoding.get("acceptanceRule") if drafter else None,
        "temperature": decoding.get("temperature"),
        "top p": decoding.get("topP"),
        "top k": decoding.get("topK"),
        "seed": decoding.get("seed"),
        "max new tokens": decoding.get("maxNewTokens"),
        "device": _devices(manifest),
        "strategy": env.get("GPU_STRATEGY", placement.get("strategy")),
        "GPUs": placement.get("gpus"),
        "ratio": ":".join(env[name] for name in ("TARGET_GPU_RATIO", "DRAFTER_GPU_RATIO") if name in env) or None,
        "replicas": len(groups),
        "dataset": identity.dataset,
        "specbatch": manifest.versions.get("specbatch"),
        "torch": manifest.versions.get("torch"),
    }


def _scalar(value: Any) -> Value:
    """What stands in one cell: a list of the spec is said as JSON."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a spec; empty where it is not set."""
    part = value.get(name)
    return part if isinstance(part, dict) else {}


def _verified(facts: RunFacts) -> str:
    found = facts.verification
    if found is None:
        return "not verified"
    counts = [(found.ties, "near ties"), (found.unexplained, "unexplained")]
    return ", ".join(
        [f"{found.exact:,} of {found.replayed:,} exact", *(f"{count:,} {what}" for count, what in counts if count)]
    )


def _devices(manifest: Manifest) -> str | None:
    """The products that the placement names."""
    found = {gpu or cpu for gpu, cpu in _DEVICE.findall(manifest.placement_tree)}
    return ", ".join(sorted(found)) or None


def _measured(facts: RunFacts, summary: RunSummary) -> dict[str, Value]:
    if not summary.seconds:
        return {}
    found = facts.verification
    return {
        "batch": summary.max_sequences or None,
        "tokens/s": summary.tokens_per_second,
        "x target alone": facts.speedup,
        "target alone was": None
        if facts.speedup is None
        else "measured"
        if found and found.target_only_tokens_per_second
        else "estimated",
        "acceptance_rate": summary.acceptance_rate if summary.drafted else None,
        "mean_acceptance_length": summary.mean_acceptance_length if summary.drafted else None,
        "mean k": summary.drafted / summary.row_rounds if summary.row_rounds else None,
        "of the ceiling": summary.fraction_of_ceiling,
        "tokens": summary.completion_tokens,
        "decoding": summary.seconds,
        "load and warm-up": summary.load_seconds + summary.warmup_seconds,
    }


def warnings_of(runs: Sequence[Compared]) -> list[str]:
    """Why the runs should not be held against each other as they are."""
    said = []
    unfair = {
        "dataset": "the datasets differ: speed, acceptance and texts are of other rows",
        "rows": "the runs have different numbers of rows",
        "target": "the targets differ: their texts and speeds are of other models",
        "device": "the devices differ",
        "shards": "the numbers of shards differ: the speeds of shards add up, as if all had run at once",
        "temperature": "the temperatures differ",
        "max new tokens": "maxNewTokens differs",
    }
    for name, sentence in unfair.items():
        if len({run.values[name] for run in runs if run.values[name] is not None}) > 1:
            said.append(sentence)
    unfinished = [run.label for run in runs if run.values["state"] != "complete"]
    if unfinished:
        said.append(f"not complete: {', '.join(unfinished)}")
    brief = [run.label for run in runs if 0 < float(run.values["decoding"] or 0) < _SHORT_SECONDS]
    if brief:
        said.append(f"decoded for less than {_SHORT_SECONDS:.0f} s, so speeds are rough: {', '.join(brief)}")
    restarted = [run.label for run in runs if int(run.values["attempts"] or 0) > 1]
    if restarted:
        said.append(f"restarted on the way, and warmed up more than once: {', '.join(restarted)}")
    ways = {run.values["target alone was"] for run in runs} - {None}
    if len(ways) > 1:
        said.append(
            "the speed of the target alone was measured by replay in some, and estimated by the run itself in others"
        )
    return said


def labels_of(folders: Sequence[Folder]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart; the same folder twice is the same label."""
    paths = [folder.uri.rstrip("/").split("/") for folder in folders]
    different = len({tuple(path) for path in paths})
    for parts in range(1, max(map(len, paths)) + 1):
        labels = ["/".join(path[-parts:]) for path in paths]
        if len(set(labels)) == different:
            return labels
    raise AssertionError("whole paths tell all apart")
