"""The report's page: one HTML file without scripts or links to anywhere. Everything that came from a user is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import Any

import yaml

from specbatch.results.facts import RunFacts
from specbatch.results.figures import Chart
from specbatch.results.rows import ErrorCode, ErrorRow, ResultRow
from specbatch.results.summary import duration

_SHOWN_CHARS = 700


def render_page(facts: RunFacts, charts: Sequence[Chart], elements: Mapping[str, str]) -> str:
    """The whole document; `elements` holds the charts' <svg> by stem."""
    style = (files("specbatch.results") / "report.css").read_text("utf-8")
    body = "\n".join(
        part
        for part in (
            _head(facts),
            _tiles(facts),
            _figures(charts, elements),
            _errors(facts),
            _samples("Wrong answers", facts.wrong),
            _samples("Sample rows", facts.samples),
            _placement(facts),
            _attempts(facts),
            _details(facts),
        )
        if part
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_safe(facts.name)} - specbatch report</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _safe(value: Any) -> str:
    return escape(str(value))


def _head(facts: RunFacts) -> str:
    if facts.complete:
        badge = '<span class="badge good">complete</span>'
    else:
        outcome = facts.attempts[0][-1].outcome if facts.attempts and facts.attempts[0] else "not complete"
        badge = f'<span class="badge bad">not complete: {_safe(outcome)}</span>' if outcome != "done" else ""
        badge = badge or '<span class="badge bad">not complete</span>'
    models = facts.identity.models if facts.identity else {}
    pair = " · ".join(f"{_safe(role)} <code>{_safe(model)}</code>" for role, model in models.items())
    starts = [attempts[0].started_at for attempts in facts.attempts if attempts]
    began = f"Began {datetime.fromtimestamp(min(starts), UTC):%Y-%m-%d %H:%M} UTC. " if starts else ""
    shards = f"{len(facts.attempts):,} shards. " if len(facts.attempts) > 1 else ""
    unreadable = f"{facts.unreadable:,} lines could not be read. " if facts.unreadable else ""
    return f"""<header>
<div class="head"><h1>{_safe(facts.name)}</h1>{badge}</div>
<p>{pair}</p>
<p class="quiet">{began}{shards}{unreadable}{_safe(facts.run_dir)}</p>
</header>"""


def _tiles(facts: RunFacts) -> str:
    summary, totals = facts.summary, facts.totals
    tiles = [("rows", f"{totals.results:,}", f"{totals.errors:,} errors" if totals.errors else "no errors")]
    if totals.share_correct is not None:
        tiles.append(("right answers", f"{totals.share_correct:.1%}", f"{totals.correct:,} of {totals.scored:,}"))
    if summary.seconds:
        tiles.append(("tokens/s", f"{summary.tokens_per_second:,.1f}", f"{summary.completion_tokens:,} tokens"))
        if summary.speedup is not None:
            alone = summary.target_only_tokens_per_second or 0.0
            tiles.append(("against the target alone", f"{summary.speedup:.2f}x", f"alone {alone:,.1f} tokens/s"))
        if summary.fraction_of_ceiling is not None:
            ceiling = summary.predicted_tokens_per_second or 0.0
            tiles.append(("of the predicted ceiling", f"{summary.fraction_of_ceiling:.0%}", f"{ceiling:,.1f} tokens/s"))
        said = f"and {duration(summary.load_seconds + summary.warmup_seconds)} before it"
        tiles.append(("time decoding", duration(summary.seconds), said))
    if summary.drafted:
        kept = f"{summary.accepted:,} of {summary.drafted:,} drafted"
        tiles.append(("acceptance rate", f"{summary.acceptance_rate:.1%}", kept))
        tiles.append(("mean acceptance length", f"{summary.mean_acceptance_length:.2f}", "tokens per target forward"))
    cells = "\n".join(
        f"<div><dt>{_safe(label)}</dt><dd>{_safe(value)}</dd><dd>{_safe(note)}</dd></div>"
        for label, value, note in tiles
    )
    return f'<dl class="tiles">\n{cells}\n</dl>'


def _figures(charts: Sequence[Chart], elements: Mapping[str, str]) -> str:
    if not charts:
        return '<p class="quiet">No row has been decoded yet, so there are no figures.</p>'
    drawn = "\n".join(
        f'<figure id="{chart.stem}"><figcaption><b>{_safe(chart.title)}</b>{_safe(chart.caption)}</figcaption>'
        f"{elements[chart.stem]}</figure>"
        for chart in charts
    )
    return f'<h2>Figures</h2>\n<div class="figures">\n{drawn}\n</div>'


def _errors(facts: RunFacts) -> str:
    counts = sorted(facts.totals.errors_by_code.items(), key=lambda item: -item[1])
    rows = [
        [("code", "code", code), ("rows", "number", f"{count:,}"), ("meaning", "", ErrorCode(code).meaning),
         ("first ones", "text", "\n".join(_error_line(row) for row in facts.errors[code]))]
        for code, count in counts
    ]  # fmt: skip
    return _table("Errors", rows)


def _error_line(row: ErrorRow) -> str:
    where = f"{row.id} (line {row.line})" if row.line is not None else row.id
    return _short(f"{where}: {row.message}")


def _samples(title: str, samples: Sequence[ResultRow]) -> str:
    rows = []
    for row in sorted(samples, key=lambda row: row.index):
        cells = [("id", "name", row.id)]
        if any(each.prompt is not None for each in samples):
            cells.append(("prompt", "text", _short(_prompt(row.prompt))))
        cells.append(("text", "text", _short(row.text)))
        if any(each.correct is not None for each in samples):
            verdict = {True: "right", False: f"wrong, expected: {_short(row.answer or '')}", None: ""}[row.correct]
            cells.append(("answer", "good" if row.correct else "bad", verdict))
        tokens = f"{row.usage.prompt_tokens:,} + {row.usage.completion_tokens:,}"
        cells += [("tokens", "number", tokens), ("finish", "", row.finish_reason)]
        rows.append(cells)
    return _table(title, rows)


def _prompt(prompt: Any) -> str:
    if prompt is None:
        return ""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text):,} characters)"


def _placement(facts: RunFacts) -> str:
    trees = [manifest.placement_tree for manifest in facts.manifests if manifest.placement_tree]
    if not trees:
        return ""
    text = "\n\n".join(dict.fromkeys(trees))  # shards placed alike are shown once
    return f'<h2>Placement</h2>\n<div class="card"><pre>{_safe(text)}</pre></div>'


def _attempts(facts: RunFacts) -> str:
    rows = [
        [("shard", "number", f"{shard}"), ("attempt", "number", f"{attempt.number}"),
         ("began (UTC)", "", f"{datetime.fromtimestamp(attempt.started_at, UTC):%Y-%m-%d %H:%M:%S}"),
         ("outcome", "", attempt.outcome), ("rows", "number", f"{attempt.summary.results:,}"),
         ("errors", "number", f"{attempt.summary.errors:,}"), ("skipped", "number", f"{attempt.summary.skipped:,}"),
         ("decoding", "number", duration(attempt.summary.seconds)),
         ("tokens/s", "number", f"{attempt.summary.tokens_per_second:,.1f}")]
        for shard, attempts in enumerate(facts.attempts)
        for attempt in attempts
    ]  # fmt: skip
    return _table("Attempts", rows)


def _details(facts: RunFacts) -> str:
    parts = [("Spec", _pre(yaml.safe_dump(_plain(facts.spec), sort_keys=False, allow_unicode=True)))]
    manifests = facts.manifests
    entries = [entry for manifest in manifests for entry in manifest.files]
    rows = [
        [("file", "name", entry.name), ("rows", "number", f"{entry.rows:,}"), ("bytes", "number", f"{entry.bytes:,}"),
         ("sha256", "hash", entry.sha256)]
        for entry in entries
    ]  # fmt: skip
    parts.append(("Files", _table("", rows)))
    facts_text = {"spec hash": facts.identity.spec_hash, "dataset": facts.identity.dataset} if facts.identity else {}
    if manifests:
        facts_text |= {**manifests[0].versions, **manifests[0].env}
    parts.append(("Versions and identity", _pre("\n".join(f"{name}: {value}" for name, value in facts_text.items()))))
    shown = "\n".join(
        f'<details class="card"><summary>{title}</summary>{content}</details>' for title, content in parts if content
    )
    return f"<h2>Details</h2>\n{shown}"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _pre(text: str) -> str:
    return f"<pre>{_safe(text)}</pre>"


def _table(title: str, rows: Sequence[Sequence[tuple[str, str, str]]]) -> str:
    """A table from rows of (column, class, text); on a phone each row becomes a card. Nothing where there are no rows."""
    if not rows:
        return ""
    head = "".join(
        f'<th class="number">{_safe(column)}</th>' if kind == "number" else f"<th>{_safe(column)}</th>"
        for column, kind, _ in rows[0]
    )
    body = "\n".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    table = (
        f'<div class="card"><table class="rows"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )
    return f"<h2>{_safe(title)}</h2>\n{table}" if title else table


def _cells(row: Iterable[tuple[str, str, str]]) -> str:
    return "".join(f'<td class="{kind}" data-label="{_safe(column)}">{_safe(text)}</td>' for column, kind, text in row)
