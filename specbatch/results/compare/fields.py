"""The facts of a run that a researcher would write into a table: how each is read, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from specbatch.formatting import format_amount, format_duration
from specbatch.plan.environment import drafters_of
from specbatch.results.hardware import products
from specbatch.results.latency import percentile
from specbatch.results.report.facts import RunFacts

Value = str | int | float | bool | None
_REVISION_CHARS = 8

FOLDED = {"target alone was", "mean k", "price of a GPU hour"}
"""Fields that the table shows within another one, unless all are asked for."""


def values_of(run: RunFacts) -> dict[str, Value]:
    """Field -> value, in the order of the table; None for what is not known, or was not measured."""
    manifest = next(iter(run.manifests), None)
    models, versions, env = (
        (run.identity.models, manifest.versions, manifest.env) if run.identity and manifest else ({}, {}, {})
    )
    spec = _section(manifest.spec, "spec") if manifest else {}
    target, drafter = _section(spec, "target"), _section(spec, "drafter")
    decoding, placement = _section(spec, "decoding"), _section(spec, "placement")
    summary = run.summary if run.summary.seconds else None
    drafted = summary if summary and summary.drafted else None
    speedup, drafters = run.speedup, len(drafters_of(env))
    values = {
        "state": "complete" if run.status.success else ", ".join(sorted({one.verdict for one in run.status.shards})),
        "target": models.get("target"),
        "target dtype": target.get("dtype"),
        "drafter": models.get("drafter", "none") if manifest else None,
        "drafter dtype": drafter.get("dtype") if "drafter" in models else None,
        "method": drafter.get("method", "target alone") if manifest else None,
        "k": decoding.get("numSpeculativeTokens") if drafter else 0 if manifest else None,
        "acceptance rule": decoding.get("acceptanceRule") if drafter else None,
        "temperature": decoding.get("temperature"),
        "top p": decoding.get("topP"),
        "top k": decoding.get("topK"),
        "seed": decoding.get("seed"),
        "max new tokens": decoding.get("maxNewTokens"),
        "device": ", ".join(products(manifest.placement_tree)) or None if manifest else None,
        "strategy": env.get("GPU_STRATEGY", placement.get("strategy")),
        "GPUs": placement.get("gpus"),
        "ratio": ":".join(env[name] for name in ("TARGET_GPU_RATIO", "DRAFTER_GPU_RATIO") if name in env) or None,
        "drafters": drafters if drafters > 1 else None,
        "replicas": len(env.get("TARGET_GPU", "").split(";")) if manifest else None,
        "shards": len(run.status.shards),
        "dataset": run.identity.dataset if run.identity else None,
        "rows": run.totals.rows,
        "batch": summary and (summary.max_sequences or None),
        "tokens/s": summary and summary.tokens_per_second,
        "x target alone": speedup.times if summary and speedup else None,
        "target alone was": speedup.how if summary and speedup else None,
        "acceptance_rate": drafted and drafted.acceptance_rate,
        "mean_acceptance_length": drafted and drafted.mean_acceptance_length,
        "mean k": summary.drafted / summary.row_rounds if summary and summary.row_rounds else None,
        "of the ceiling": summary and summary.fraction_of_ceiling,
        "cost of 1M tokens": run.cost and run.cost.per_million,
        "price of a GPU hour": summary and summary.price,
        "tokens": summary and summary.completion_tokens,
        "row latency p50": _latency(run, 0.5),
        "row latency p99": _latency(run, 0.99),
        "errors": run.totals.errors,
        "right answers": run.totals.share_correct,
        "decoding": summary and summary.seconds,
        "load and warm-up": summary and summary.load_seconds + summary.warmup_seconds,
        "attempts": max((len(attempts) for attempts in run.attempts), default=0),
        "verification": _verification(run),
        "specbatch": versions.get("specbatch"),
        "torch": versions.get("torch"),
    }
    return {name: _scalar(value) for name, value in values.items()}


def show(name: str, value: Value) -> str:
    """The text of a value that is known."""
    return _SHOW.get(name, str)(value)


def _section(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a spec; empty where it is not set."""
    part = spec.get(name)
    return part if isinstance(part, dict) else {}


def _scalar(value: Any) -> Value:
    """What fits into one cell: a list of the spec as JSON."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def _latency(run: RunFacts, share: float) -> float | None:
    return percentile(run.summary.row_latency, share) if run.summary.row_latency else None


def _verification(run: RunFacts) -> str:
    found = run.verification
    if found is None:
        return "not verified"
    counts = [(found.ties, "near ties"), (found.unexplained, "unexplained")]
    more = [f"{count:,} {what}" for count, what in counts if count]
    return ", ".join([f"{found.exact:,} of {found.replayed:,} exact", *more])


def _model(name: str) -> str:
    """name@revision with as much of the revision as tells it from others."""
    model, _, revision = name.partition("@")
    return f"{model}@{revision.rpartition('-')[2][:_REVISION_CHARS]}" if revision else model


_count, _percent = "{:,}".format, "{:.1%}".format
_SHOW: Mapping[str, Callable[[Any], str]] = {
    "target": _model,
    "drafter": _model,
    "dataset": lambda fingerprint: str(fingerprint)[: 2 * _REVISION_CHARS],
    "rows": _count,
    "batch": _count,
    "tokens/s": "{:,.1f}".format,
    "x target alone": "{:.2f}x".format,
    "acceptance_rate": "{:.3f}".format,
    "mean_acceptance_length": "{:.2f}".format,
    "mean k": "{:.2f}".format,
    "of the ceiling": _percent,
    "cost of 1M tokens": format_amount,
    "price of a GPU hour": "{:g}".format,
    "tokens": _count,
    "row latency p50": format_duration,
    "row latency p99": format_duration,
    "errors": _count,
    "right answers": _percent,
    "decoding": format_duration,
    "load and warm-up": format_duration,
}
