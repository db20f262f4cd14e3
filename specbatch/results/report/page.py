"""The report's page: what its templates (templates/report.html) are given. It says what was not measured as plainly as what was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml
from msgspec.structs import replace

from specbatch.formatting import by_count, format_duration, format_percent, pluralize
from specbatch.results.attempts import Attempt
from specbatch.results.hardware import products
from specbatch.results.protocol import PublishState
from specbatch.results.report.charts import Charts
from specbatch.results.report.facts import RunFacts
from specbatch.results.report.sample import Sample
from specbatch.results.rows import ErrorCode, ErrorRow
from specbatch.results.status.progress_text import publish_text
from specbatch.results.status.shard_status import AT_WORK, ShardStatus

_SHOWN_CHARS = 700
_ID_CHARS = 120
_ABSENT = "—"
# C0 controls as Unicode's pictures of them; C1 controls and those that change the direction of text as U+FFFD.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: "\u2421"}
_PICTURES |= dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the large numbers; `kind` is its CSS class."""

    label: str
    value: str
    note: str
    kind: str = ""

    @classmethod
    def absent(cls, label: str, why: str) -> Tile:
        """A number that is not known."""
        return cls(label, _ABSENT, why, "absent")


def render_page(run: RunFacts, charts: Charts, figures: Mapping[str, str], sample: Sample) -> str:
    """The whole document.

    Args:
        run: what the page tells.
        charts: the figures and why others are missing.
        figures: stem -> <svg> of each figure.
        sample: the row in full.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - with matplotlib an extra
    from markupsafe import Markup  # noqa: PLC0415 - as jinja2

    def visible(value: Any) -> Any:
        return value if isinstance(value, Markup) else str(value).translate(_PICTURES)

    environment = Environment(
        loader=PackageLoader("specbatch.results.report"),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    trees = dict.fromkeys(one.placement_tree for one in run.manifests if one.placement_tree)  # alike ones once
    parts = [tree.partition("\n\nEnvironment") for tree in trees]
    return environment.get_template("report.html").render(
        run=run,
        badge=_badge(run),
        models=run.identity.models if run.identity else {},
        hardware=_hardware(run),
        began=min((attempts[0].started_at for attempts in run.attempts if attempts), default=None),
        tiles=_tiles(run),
        charts=charts,
        figures={stem: Markup(svg) for stem, svg in figures.items()},  # noqa: S704 - matplotlib escapes what it draws
        warnings=list(dict.fromkeys(text for one in run.manifests for text in one.warnings)),
        target_only=run.target_only_tokens_per_second,
        errors=_errors(run),
        sample=sample,
        placements=[tree for tree, _, _ in parts],
        plans=[(mark + text).strip() for _, mark, text in parts if text],
        attempts=[
            {"shard": one.shard, "attempt": attempt, "outcome": _outcome(attempt, one)}
            for one in run.status.shards
            for attempt in one.attempts
        ],
        publishing=[publish_text(_dated(state)) for state in run.publish],
        spec=yaml.safe_dump(json.loads(json.dumps(run.spec, default=str)), sort_keys=False, allow_unicode=True),
        files=[entry for one in run.manifests for entry in one.files],
        versions=_versions(run),
    )


def shorten(text: str, most: int = _SHOWN_CHARS) -> str:
    """The text, cut where it is long."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def prompt_text(prompt: Any) -> str:
    """A prompt for people: messages with the role above each; nothing where there is none."""
    if prompt is None or isinstance(prompt, str):
        return prompt or ""
    if isinstance(prompt, list) and all(
        isinstance(one, dict) and isinstance(one.get("content"), str) for one in prompt
    ):
        return "\n\n".join(f"{one.get('role', '')}:\n{one['content']}" for one in prompt)
    return json.dumps(prompt, ensure_ascii=False)


def _utc(seconds: float, form: str) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):{form}}"


_FILTERS: Mapping[str, Callable[..., str]] = {
    "number": "{:,}".format,
    "decimal": "{:,.1f}".format,
    "duration": format_duration,
    "plural": pluralize,
    "prompt": prompt_text,
    "repr": repr,
    "short": shorten,
    "utc": _utc,
}


def _badge(run: RunFacts) -> dict[str, str]:
    if run.status.complete:  # by the manifests: the run itself writes _SUCCESS after its report
        return {"kind": "good", "text": "complete"}
    verdicts = {one.verdict: one.sentence for one in run.status.shards if one.verdict != "complete"}
    if set(verdicts) <= AT_WORK:
        return {"kind": "quiet", "text": "still running: as of now"}
    text = next(iter(verdicts.values())) if len(run.status.shards) == 1 else ", ".join(sorted(verdicts))
    return {"kind": "bad", "text": f"not complete: {text}"}


def _tiles(run: RunFacts) -> list[Tile]:
    totals = run.totals
    tiles = [Tile("rows", f"{totals.results:,}", pluralize(totals.errors, "error"))]
    if totals.share_correct is not None:
        tiles.append(Tile("right answers", f"{totals.share_correct:.1%}", f"{totals.correct:,} of {totals.scored:,}"))
    return [*tiles, *_speed(run), *_speculation(run), _verified(run)]


def _speed(run: RunFacts) -> list[Tile]:
    summary, alone = run.summary, run.target_only_tokens_per_second
    if not summary.seconds:
        return [Tile.absent("tokens/s", "nothing was decoded")]
    tiles = [Tile("tokens/s", f"{summary.tokens_per_second:,.1f}", f"{summary.completion_tokens:,} tokens")]
    if run.speedup is None or alone is None:
        tiles.append(Tile.absent("against the target alone", "not measured: specbatch verify does"))
    else:
        found = run.verification
        measured = found is not None and found.target_only_tokens_per_second is not None
        how = f"on {pluralize(found.target_only_rows, 'row')}" if measured and found else "estimated by the run"
        note = f"alone {alone:,.1f} tokens/s, {how}"
        tiles.append(Tile("against the target alone", f"{run.speedup:.2f}x", note))
    ceiling = summary.predicted_tokens_per_second
    if summary.fraction_of_ceiling is None or ceiling is None:
        tiles.append(Tile.absent("of the predicted ceiling", "nothing was predicted"))
    else:
        share = format_percent(summary.fraction_of_ceiling)
        tiles.append(Tile("of the predicted ceiling", share, f"of {ceiling:,.0f} tokens/s"))
    before = format_duration(summary.load_seconds + summary.warmup_seconds)
    return [*tiles, Tile("time decoding", format_duration(summary.seconds), f"and {before} before it")]


def _speculation(run: RunFacts) -> list[Tile]:
    summary = run.summary
    if not summary.drafted:
        return [Tile.absent("acceptance rate", "nothing was drafted")]
    kept = f"{summary.accepted:,} of {summary.drafted:,} drafted"
    length = f"{summary.mean_acceptance_length:.2f}"
    return [
        Tile("acceptance rate", f"{summary.acceptance_rate:.1%}", kept),
        Tile("mean acceptance length", length, "tokens per target forward"),
    ]


def _verified(run: RunFacts) -> Tile:
    found = run.verification
    if found is None:
        return Tile.absent("verified", "not yet: specbatch verify does")
    exact = f"{found.exact:,} of {found.replayed:,}"
    if found.unexplained:
        return Tile("verified", exact, f"{pluralize(found.unexplained, 'row')} unexplained", "wrong")
    ties = f"exact, {pluralize(found.ties, 'near tie')}" if found.ties else "exactly the target's own"
    return Tile("verified", exact, ties)


def _errors(run: RunFacts) -> list[dict[str, Any]]:
    """Each code with its meaning and the first rows that had it."""
    return [
        {
            "code": code,
            "rows": rows,
            "meaning": ErrorCode(code).meaning,
            "first": "\n".join(map(_line, run.errors[code])),
        }
        for code, rows in by_count(run.totals.errors_by_code)
    ]


def _line(row: ErrorRow) -> str:
    where = shorten(row.id, _ID_CHARS) + ("" if row.line is None else f" (line {row.line})")
    return shorten(f"{where}: {row.message}")


def _hardware(run: RunFacts) -> str:
    """Of all shards; of releases that did not record it, the products that the placement names."""
    counts = Counter(str(one.hardware) for one in run.manifests if one.hardware)
    if counts:
        return "; ".join(text if count == 1 else f"{count} shards, each {text}" for text, count in counts.items())
    return ", ".join(dict.fromkeys(name for one in run.manifests for name in products(one.placement_tree)))


def _outcome(attempt: Attempt, shard: ShardStatus) -> str:
    said = shard.outcome_of(attempt)
    return f"{said}: {attempt.reason}" if attempt.reason else said


def _dated(state: PublishState) -> PublishState:
    """With the time itself in place of how long ago it was: a page is read later."""
    if state.failing_since is None or not state.problem:
        return state
    since = f"since {_utc(state.failing_since, '%Y-%m-%d %H:%M')} UTC"
    return replace(state, problem=f"{since}, {state.problem}", failing_since=None)


def _versions(run: RunFacts) -> Sequence[str]:
    known = {"spec hash": run.identity.spec_hash, "dataset": run.identity.dataset} if run.identity else {}
    if run.manifests:
        known |= {**run.manifests[0].versions, **run.manifests[0].env}
    return [f"{name}: {value}" for name, value in known.items()]
