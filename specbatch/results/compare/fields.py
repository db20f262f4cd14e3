"""The facts of a run that a researcher would write into a table: how each is read, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from specbatch.formatting import format_duration
from specbatch.results.hardware import products
from specbatch.results.report.facts import RunFacts

Value = str | int | float | bool | None
_REVISION_CHARS = 8


@dataclass(frozen=True, slots=True)
class Field:
    """A row of the table.

    Args:
        name: as the table shows it.
        read: from a run to its value, None where that is not known.
        show: from a value to its text.
        folded: shown within another row, unless all are asked for.
    """

    name: str
    read: Callable[[RunFacts], Any]
    show: Callable[[Any], str] = str
    folded: bool = False


def values_of(run: RunFacts) -> dict[str, Value]:
    """Field -> value."""
    return {field.name: _scalar(field.read(run)) for field in FIELDS}


def _scalar(value: Any) -> Value:
    """What fits into one cell: a list of the spec as JSON."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def _spec(section: str, name: str, *, of_drafters: bool = False) -> Callable[[RunFacts], Any]:
    """Reads a field of the spec; with `of_drafters` only of runs that have one."""
    return lambda run: _section(run, section).get(name) if not of_drafters or _section(run, "drafter") else None


def _section(run: RunFacts, name: str) -> Mapping[str, Any]:
    """A section of the resolved spec; empty where it is not set, or there is no manifest."""
    spec = run.spec.get("spec") if run.manifests else None
    part = spec.get(name) if isinstance(spec, dict) else None
    return part if isinstance(part, dict) else {}


def _model(role: str, otherwise: str | None = None) -> Callable[[RunFacts], Any]:
    return lambda run: run.identity.models.get(role, otherwise) if run.identity else None


def _version(package: str) -> Callable[[RunFacts], Any]:
    return lambda run: run.manifests[0].versions.get(package) if run.manifests else None


def _measured(name: str) -> Callable[[RunFacts], Any]:
    """Reads a figure of the summary, of a run that has decoded anything."""
    return lambda run: getattr(run.summary, name) if run.summary.seconds else None


def _speculative(name: str) -> Callable[[RunFacts], Any]:
    return lambda run: getattr(run.summary, name) if run.summary.seconds and run.summary.drafted else None


def _state(run: RunFacts) -> str:
    return "complete" if run.status.success else ", ".join(sorted({shard.verdict for shard in run.status.shards}))


def _method(run: RunFacts) -> str | None:
    return str(_section(run, "drafter").get("method", "target alone")) if run.manifests else None


def _k(run: RunFacts) -> Any:
    if not run.manifests:
        return None
    return _section(run, "decoding").get("numSpeculativeTokens") if _section(run, "drafter") else 0


def _drafter_dtype(run: RunFacts) -> Any:
    return _section(run, "drafter").get("dtype") if run.identity and "drafter" in run.identity.models else None


def _device(run: RunFacts) -> str | None:
    return ", ".join(products(run.manifests[0].placement_tree)) or None if run.manifests else None


def _env(run: RunFacts) -> Mapping[str, str]:
    return run.manifests[0].env if run.manifests else {}


def _strategy(run: RunFacts) -> Any:
    return _env(run).get("GPU_STRATEGY", _section(run, "placement").get("strategy"))


def _ratio(run: RunFacts) -> str | None:
    env = _env(run)
    return ":".join(env[name] for name in ("TARGET_GPU_RATIO", "DRAFTER_GPU_RATIO") if name in env) or None


def _replicas(run: RunFacts) -> int | None:
    return len(_env(run).get("TARGET_GPU", "").split(";")) if run.manifests else None


def _speedup(run: RunFacts) -> float | None:
    return run.speedup if run.summary.seconds else None


def _speedup_source(run: RunFacts) -> str | None:
    """Whether the speed of the target alone was measured by `specbatch verify` or estimated by the run."""
    if not run.summary.seconds or run.speedup is None:
        return None
    return "measured" if run.verification and run.verification.target_only_tokens_per_second else "estimated"


def _mean_k(run: RunFacts) -> float | None:
    summary = run.summary
    return summary.drafted / summary.row_rounds if summary.seconds and summary.row_rounds else None


def _before_decoding(run: RunFacts) -> float | None:
    return run.summary.load_seconds + run.summary.warmup_seconds if run.summary.seconds else None


def _verification(run: RunFacts) -> str:
    found = run.verification
    if found is None:
        return "not verified"
    counts = [(found.ties, "near ties"), (found.unexplained, "unexplained")]
    return ", ".join(
        [f"{found.exact:,} of {found.replayed:,} exact", *(f"{count:,} {what}" for count, what in counts if count)]
    )


def _show_model(name: str) -> str:
    """name@revision with as much of the revision as tells it from others."""
    model, _, revision = name.partition("@")
    return f"{model}@{revision.rpartition('-')[2][:_REVISION_CHARS]}" if revision else model


def _show_start(text: str) -> str:
    return text[: 2 * _REVISION_CHARS]


_count, _percent = "{:,}".format, "{:.1%}".format

FIELDS = (
    Field("state", _state),
    Field("target", _model("target"), _show_model),
    Field("target dtype", _spec("target", "dtype")),
    Field("drafter", _model("drafter", "none"), _show_model),
    Field("drafter dtype", _drafter_dtype),
    Field("method", _method),
    Field("k", _k),
    Field("acceptance rule", _spec("decoding", "acceptanceRule", of_drafters=True)),
    Field("temperature", _spec("decoding", "temperature")),
    Field("top p", _spec("decoding", "topP")),
    Field("top k", _spec("decoding", "topK")),
    Field("seed", _spec("decoding", "seed")),
    Field("max new tokens", _spec("decoding", "maxNewTokens")),
    Field("device", _device),
    Field("strategy", _strategy),
    Field("GPUs", _spec("placement", "gpus")),
    Field("ratio", _ratio),
    Field("replicas", _replicas),
    Field("shards", lambda run: len(run.status.shards)),
    Field("dataset", lambda run: run.identity.dataset if run.identity else None, _show_start),
    Field("rows", lambda run: run.totals.rows, _count),
    Field("batch", lambda run: run.summary.max_sequences or None if run.summary.seconds else None, _count),
    Field("tokens/s", _measured("tokens_per_second"), "{:,.1f}".format),
    Field("x target alone", _speedup, "{:.2f}x".format),
    Field("target alone was", _speedup_source, folded=True),
    Field("acceptance_rate", _speculative("acceptance_rate"), "{:.3f}".format),
    Field("mean_acceptance_length", _speculative("mean_acceptance_length"), "{:.2f}".format),
    Field("mean k", _mean_k, "{:.2f}".format, folded=True),
    Field("of the ceiling", _measured("fraction_of_ceiling"), _percent),
    Field("tokens", _measured("completion_tokens"), _count),
    Field("errors", lambda run: run.totals.errors, _count),
    Field("right answers", lambda run: run.totals.share_correct, _percent),
    Field("decoding", _measured("seconds"), format_duration),
    Field("load and warm-up", _before_decoding, format_duration),
    Field("attempts", lambda run: max((len(attempts) for attempts in run.attempts), default=0)),
    Field("verification", _verification),
    Field("specbatch", _version("specbatch")),
    Field("torch", _version("torch")),
)
