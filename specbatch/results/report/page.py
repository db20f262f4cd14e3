"""The report's page: one HTML file without scripts or links to anywhere. It says what was not measured as plainly as what was."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files

from specbatch.formatting import format_duration, format_percent, pluralize
from specbatch.results.report import page_sections
from specbatch.results.report.charts import Charts
from specbatch.results.report.facts import RunFacts
from specbatch.results.report.markup import safe, section
from specbatch.results.status.shard_status import AT_WORK

Tile = tuple[str, str, str]
"""(label, value, note)."""
_ABSENT = "—"  # as in any table
_UNEXPLAINED = "unexplained"


def render_page(facts: RunFacts, charts: Charts, elements: Mapping[str, str]) -> str:
    """The whole document; `elements` holds the charts' <svg> by stem."""
    style = (files("specbatch.results.report") / "report.css").read_text("utf-8")
    body = "\n".join(
        part
        for part in (
            _head(facts),
            _tiles(facts),
            _figures(charts, elements),
            page_sections.warnings(facts),
            page_sections.verification(facts),
            page_sections.errors(facts),
            page_sections.samples("Wrong answers", facts.wrong),
            page_sections.samples("Sample rows", facts.samples),
            page_sections.placement(facts),
            page_sections.attempts(facts),
            page_sections.publishing(facts),
            page_sections.further(facts),
        )
        if part
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{safe(facts.name)} - specbatch report</title>
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


def _head(facts: RunFacts) -> str:
    models = facts.identity.models if facts.identity else {}
    pair = " · ".join(f"{safe(role)} <code><bdi>{safe(model)}</bdi></code>" for role, model in models.items())
    starts = [attempts[0].started_at for attempts in facts.attempts if attempts]
    said = [f"Began {datetime.fromtimestamp(min(starts), UTC):%Y-%m-%d %H:%M} UTC."] if starts else []
    before = f" ({', '.join(map(str, facts.status.before))} before)" if facts.status.before else ""
    if len(facts.attempts) > 1 or before:
        said.append(f"{pluralize(len(facts.attempts), 'shard')}{before}.")
    if facts.unreadable:
        said.append(f"{pluralize(facts.unreadable, 'line')} could not be read.")
    if facts.repeated:
        said.append(
            f"{pluralize(facts.repeated, 'row')} twice in the files, and twice in the counts: collect removes them."
        )
    return f"""<header>
<div class="head"><h1><bdi>{safe(facts.name)}</bdi></h1>{_badge(facts)}</div>
<p>{pair}</p>
<p class="quiet">{" ".join(said)} <bdi>{safe(facts.status.where)}</bdi></p>
</header>"""


def _badge(facts: RunFacts) -> str:
    if facts.status.complete:  # by the manifests: the run itself writes _SUCCESS after its report
        return '<span class="badge good">complete</span>'
    verdicts = {one.verdict: one.sentence for one in facts.status.shards if one.verdict != "complete"}
    if set(verdicts) <= AT_WORK:
        return '<span class="badge quiet">still running: as of now</span>'
    text = next(iter(verdicts.values())) if len(facts.status.shards) == 1 else ", ".join(sorted(verdicts))
    return f'<span class="badge bad">not complete: {safe(text)}</span>'


def _tiles(facts: RunFacts) -> str:
    tiles = [*_rows_tiles(facts), *_speed_tiles(facts), *_speculation_tiles(facts), _verified_tile(facts)]
    cells = "\n".join(
        f'<div class="{"absent" if value == _ABSENT else "wrong" if note.endswith(_UNEXPLAINED) else ""}">'
        f"<dt>{safe(label)}</dt><dd>{safe(value)}</dd><dd>{safe(note)}</dd></div>"
        for label, value, note in tiles
    )
    return f'<dl class="tiles">\n{cells}\n</dl>'


def _rows_tiles(facts: RunFacts) -> list[Tile]:
    totals = facts.totals
    tiles = [("rows", f"{totals.results:,}", pluralize(totals.errors, "error"))]
    if totals.share_correct is not None:
        tiles.append(("right answers", f"{totals.share_correct:.1%}", f"{totals.correct:,} of {totals.scored:,}"))
    return tiles


def _speed_tiles(facts: RunFacts) -> list[Tile]:
    summary = facts.summary
    if not summary.seconds:
        return [("tokens/s", _ABSENT, "nothing was decoded")]
    tiles = [("tokens/s", f"{summary.tokens_per_second:,.1f}", f"{summary.completion_tokens:,} tokens")]
    alone = facts.target_only_tokens_per_second
    if facts.speedup is None or alone is None:
        tiles.append(("against the target alone", _ABSENT, "not measured: specbatch verify does"))
    else:
        found = facts.verification
        measured = found is not None and found.target_only_tokens_per_second is not None
        how = f"on {pluralize(found.target_only_rows, 'row')}" if measured and found else "estimated by the run"
        tiles.append(("against the target alone", f"{facts.speedup:.2f}x", f"alone {alone:,.1f} tokens/s, {how}"))
    ceiling = summary.predicted_tokens_per_second
    if summary.fraction_of_ceiling is None or ceiling is None:
        tiles.append(("of the predicted ceiling", _ABSENT, "nothing was predicted"))
    else:
        tiles.append(
            ("of the predicted ceiling", format_percent(summary.fraction_of_ceiling), f"of {ceiling:,.0f} tokens/s")
        )
    said = f"and {format_duration(summary.load_seconds + summary.warmup_seconds)} before it"
    tiles.append(("time decoding", format_duration(summary.seconds), said))
    return tiles


def _speculation_tiles(facts: RunFacts) -> list[Tile]:
    summary = facts.summary
    if not summary.drafted:
        return [("acceptance rate", _ABSENT, "nothing was drafted")]
    kept = f"{summary.accepted:,} of {summary.drafted:,} drafted"
    return [
        ("acceptance rate", f"{summary.acceptance_rate:.1%}", kept),
        ("mean acceptance length", f"{summary.mean_acceptance_length:.2f}", "tokens per target forward"),
    ]


def _verified_tile(facts: RunFacts) -> Tile:
    found = facts.verification
    if found is None:
        return ("verified", _ABSENT, "not yet: specbatch verify does")
    exact = f"{found.exact:,} of {found.replayed:,}"
    if found.unexplained:
        return ("verified", exact, f"{pluralize(found.unexplained, 'row')} {_UNEXPLAINED}")
    ties = f"exact, {pluralize(found.ties, 'near tie')}" if found.ties else "exactly the target's own"
    return ("verified", exact, ties)


def _figures(charts: Charts, elements: Mapping[str, str]) -> str:
    if not charts.drawn:
        return '<p class="quiet">No row has been decoded yet, so there are no figures.</p>'
    drawn = "\n".join(
        f'<figure id="{chart.stem}"><figcaption><b>{safe(chart.title)}</b>{safe(chart.caption)}</figcaption>'
        f"{elements[chart.stem]}</figure>"
        for chart in charts.drawn
    )
    why = " ".join(f"{title}: {reason}." for title, reason in charts.missing)
    missing = f'\n<p class="quiet">Not drawn. {safe(why)}</p>' if why else ""
    return section("Figures", f'<div class="figures">\n{drawn}\n</div>{missing}')
