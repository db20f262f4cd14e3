"""The report's page: what its templates (templates/report.html) are given. What was not measured is shown as such."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml
from msgspec.structs import replace

from specbatch.formatting import by_count, format_duration, pluralize
from specbatch.results.attempts import Attempt
from specbatch.results.hardware import products
from specbatch.results.protocol import PublishState
from specbatch.results.report.charts import Charts
from specbatch.results.report.facts import RunFacts
from specbatch.results.report.sample import Sample
from specbatch.results.report.tiles import tiles_of
from specbatch.results.rows import ErrorCode, ErrorRow
from specbatch.results.status.progress_text import publish_text
from specbatch.results.status.shard_status import ShardStatus
from specbatch.results.status.verdict import AT_WORK

if TYPE_CHECKING:
    from jinja2 import Environment

_SHOWN_CHARS = 700
_ID_CHARS = 120
# C0 controls as Unicode's pictures of them; C1 controls and those that change the direction of text as U+FFFD.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: "\u2421"}
_PICTURES |= dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")


def render_page(run: RunFacts, charts: Charts, figures: Mapping[str, str], sample: Sample) -> str:
    """The whole document.

    Args:
        run: what the page is about.
        charts: the figures and why others are missing.
        figures: stem -> <svg> of each figure.
        sample: the row in full.
    """
    from markupsafe import Markup  # noqa: PLC0415 - as jinja2

    trees = dict.fromkeys(one.placement_tree for one in run.manifests if one.placement_tree)  # alike ones once
    parts = [tree.partition("\n\nEnvironment") for tree in trees]
    return (
        _environment()
        .get_template("report.html")
        .render(
            run=run,
            badge=_badge(run),
            models=run.identity.models if run.identity else {},
            hardware=_hardware(run),
            price=run.summary.price,
            began=min((attempts[0].started_at for attempts in run.attempts if attempts), default=None),
            tiles=tiles_of(run),
            charts=charts,
            figures={stem: Markup(svg) for stem, svg in figures.items()},  # noqa: S704 - matplotlib escapes what it draws
            warnings=list(dict.fromkeys(text for one in run.manifests for text in one.warnings)),
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
    )


@cache
def _environment() -> Environment:
    """Everything that a template shows is escaped, and its control characters are shown as pictures."""
    import jinja2  # noqa: PLC0415 - not in the base install
    from markupsafe import Markup  # noqa: PLC0415 - as jinja2

    def visible(value: Any) -> Any:
        return value if isinstance(value, Markup) else str(value).translate(_PICTURES)

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("specbatch.results.report"),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    return environment


def shorten(text: str, most: int = _SHOWN_CHARS) -> str:
    """The text, cut where it is long."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def prompt_text(prompt: Any) -> str:
    """A prompt for people: messages with the role before each; nothing where there is none."""
    if prompt is None or isinstance(prompt, str):
        return prompt or ""
    if isinstance(prompt, list) and all(
        isinstance(one, dict) and isinstance(one.get("content"), str) for one in prompt
    ):
        return "\n".join(f"{one.get('role', '')}: {one['content']}" for one in prompt)
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
