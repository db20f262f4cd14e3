"""The report's sections below the figures: warnings, verification, errors, rows, placement, attempts, details."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml

from specbatch.formatting import format_duration
from specbatch.results.attempts import Attempt
from specbatch.results.publish.state import PublishState
from specbatch.results.report.facts import RunFacts
from specbatch.results.report.markup import Cell, card, details, facts_list, pre, section, short, table
from specbatch.results.rows import ErrorCode, ErrorRow, ResultRow
from specbatch.results.status.progress_snapshot import publish_text

_DIVERGENCES_SHOWN = 10
_ATTEMPTS_SHOWN = 50
_ID_CHARS = 120


def warnings(facts: RunFacts) -> str:
    """What the target asks for and the run did not do."""
    texts = dict.fromkeys(text for manifest in facts.manifests for text in manifest.warnings)
    return section("Warnings", facts_list(("not as the model asks", text) for text in texts)) if texts else ""


def verification(facts: RunFacts) -> str:
    """The certificate, or that there is none."""
    found = facts.verification
    if found is None:
        alone = facts.target_only_tokens_per_second
        speed = (
            ""
            if alone is None
            else (
                f" The run's own estimate of the target alone, from what rounds without drafts cost: {alone:,.1f} tokens/s."
            )
        )
        note = "Not verified yet. specbatch verify DIR replays a sample of the rows with the target alone, and measures its speed."
        return section("Verification", "", note=note + speed)
    items = [
        ("verdict", found.verdict),
        ("sample", f"{found.sampled:,} of {found.finished:,} finished rows (seed {found.seed})"),
        ("rows", f"exact {found.exact:,}, near ties {found.ties:,}, unexplained {found.unexplained:,}"),
    ]
    others = [(found.not_replayable, "cannot be replayed (acceptanceRule: rejection)"), (found.changed, "changed in the dataset")]  # fmt: skip
    items += [("left out", f"{count:,} {why}") for count, why in others if count]
    if found.target_only_tokens_per_second is not None:
        items.append(("target alone", alone_measured(facts)))
    scores = f", margins from scores in {found.scores}" if found.scores else ""
    items.append(("replayed with", f"{found.target} in {found.dtype}{scores}"))
    items.append(("when", found.verified_at))
    rows: list[list[Cell]] = [
        [("id", "name", short(one.id, _ID_CHARS)), ("kind", "tag", one.kind), ("token", "number", f"{one.position:,}"),
         ("recorded", "text", "none of the likely ones" if one.recorded is None else repr(one.recorded)),
         ("target", "text", repr(one.target)),
         ("margin", "number", "" if one.margin is None else f"{one.margin:.3g} (tie: {one.bound:.2g})"),
         ("where", "text", short(one.excerpt))]
        for one in found.divergences[:_DIVERGENCES_SHOWN]
    ]  # fmt: skip
    return section("Verification", facts_list(items) + table(rows))


def alone_measured(facts: RunFacts) -> str:
    """How fast the target alone is, and on what that was measured."""
    found, speed = facts.verification, facts.target_only_tokens_per_second
    if speed is None:
        return "not measured"
    if found is None or not found.target_only_rows:
        return f"{speed:,.1f} tokens/s, estimated by the run from what rounds without drafts cost"
    where = f" on {found.device}" if found.device else ""
    return (
        f"{speed:,.1f} tokens/s, measured on {found.target_only_rows:,} of the rows "
        f"({found.target_only_tokens:,} tokens, {found.max_sequences:,} at once){where}"
    )


def errors(facts: RunFacts) -> str:
    """Each code with its meaning and the first rows that had it."""
    counts = sorted(facts.totals.errors_by_code.items(), key=lambda item: -item[1])
    rows: list[list[Cell]] = [
        [("code", "code", code), ("rows", "number", f"{count:,}"), ("meaning", "", ErrorCode(code).meaning),
         ("first ones", "text", "\n".join(_error_line(row) for row in facts.errors[code]))]
        for code, count in counts
    ]  # fmt: skip
    return section("Errors", table(rows))


def _error_line(row: ErrorRow) -> str:
    where = short(row.id, _ID_CHARS) + ("" if row.line is None else f" (line {row.line})")
    return short(f"{where}: {row.message}")


def samples(title: str, shown: Sequence[ResultRow], note: str = "") -> str:
    """Rows as they were answered."""
    rows = []
    for row in sorted(shown, key=lambda row: row.index):
        cells: list[Cell] = [("id", "name", short(row.id, _ID_CHARS))]
        if any(each.prompt is not None for each in shown):
            cells.append(("prompt", "text", short(_prompt(row.prompt))))
        cells.append(("text", "text", short(row.text)))
        if any(each.correct is not None for each in shown):
            verdict = {True: "right", False: f"wrong, expected: {short(row.answer or '')}", None: ""}[row.correct]
            cells.append(("answer", "good" if row.correct else "bad", verdict))
        tokens = f"{row.usage.prompt_tokens:,} + {row.usage.completion_tokens:,}"
        cells += [("tokens", "number", tokens), ("finish", "tag", row.finish_reason)]
        rows.append(cells)
    return section(title, table(rows), note=note if rows else "")


def _prompt(prompt: Any) -> str:
    if prompt is None:
        return ""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def placement(facts: RunFacts) -> str:
    """The tree of models and devices; the rest of the plan is folded away."""
    trees = [manifest.placement_tree for manifest in facts.manifests if manifest.placement_tree]
    if not trees:
        return section(
            "Placement", "", note="Not recorded yet: the manifest has it, which is written when an attempt ends."
        )
    parts = [tree.partition("\n\nEnvironment") for tree in dict.fromkeys(trees)]  # shards placed alike are shown once
    rest = "\n\n".join((mark + text).strip() for _, mark, text in parts if text)
    shown = card(pre("\n\n".join(tree for tree, _, _ in parts)))
    return section("Placement", shown + details("The plan: memory, ceilings, notes", pre(rest) if rest else ""))


def attempts(facts: RunFacts) -> str:
    """Every process that worked at a shard: where restarts were."""
    several = len(facts.attempts) > 1
    rows: list[list[Cell]] = []
    for shard in facts.status.shards:
        for attempt in shard.attempts:
            summary = attempt.summary
            killed = attempt.outcome == "running" and shard.verdict == "killed"
            cells: list[Cell] = [("shard", "number", f"{shard.shard}")] if several else []
            cells += [
                ("attempt", "number", f"{attempt.number}"),
                ("began (UTC)", "code", f"{datetime.fromtimestamp(attempt.started_at, UTC):%Y-%m-%d %H:%M:%S}"),
                ("outcome", "tag", _outcome(attempt, killed=killed)),
                ("rows", "number", f"{summary.results:,}"),
                ("errors", "number", f"{summary.errors:,}"),
                ("skipped", "number", f"{summary.skipped:,}"),
                ("loading", "number", format_duration(summary.load_seconds + summary.warmup_seconds)),
                ("decoding", "number", format_duration(summary.seconds)),
                ("tokens/s", "number", f"{summary.tokens_per_second:,.1f}"),
                ("acceptance", "number", f"{summary.acceptance_rate:.3f}" if summary.drafted else "-"),
            ]
            rows.append(cells)
    hidden = len(rows) - _ATTEMPTS_SHOWN
    note = f"The last {_ATTEMPTS_SHOWN}; {hidden:,} are not shown." if hidden > 0 else ""
    return section("Attempts", table(rows[-_ATTEMPTS_SHOWN:]), note=note)


def _outcome(attempt: Attempt, *, killed: bool) -> str:
    said = "killed" if killed else attempt.outcome
    return f"{said}: {short(attempt.reason)}" if attempt.reason else said


def publishing(facts: RunFacts) -> str:
    """How far publishing was at the last word."""
    several = len(facts.publish) > 1
    items = [
        (f"shard {number}" if several else "published", publish_text(_dated(state)))
        for number, state in enumerate(facts.publish)
    ]
    return section("Publishing", facts_list(items)) if items else ""


def _dated(state: PublishState) -> PublishState:
    """With the time itself in place of how long ago it was: a page is read later."""
    if state.failing_since is None or not state.problem:
        return state
    since = f"since {datetime.fromtimestamp(state.failing_since, UTC):%Y-%m-%d %H:%M} UTC"
    return replace(state, problem=f"{since}, {state.problem}", failing_since=None)


def further(facts: RunFacts) -> str:
    """What few people ask for."""
    manifests = facts.manifests
    entries = [entry for manifest in manifests for entry in manifest.files]
    files: list[list[Cell]] = [
        [("file", "name", entry.name), ("rows", "number", f"{entry.rows:,}"), ("bytes", "number", f"{entry.bytes:,}"),
         ("sha256", "hash", entry.sha256)]
        for entry in entries
    ]  # fmt: skip
    known = {"spec hash": facts.identity.spec_hash, "dataset": facts.identity.dataset} if facts.identity else {}
    if manifests:
        known |= {**manifests[0].versions, **manifests[0].env}
    spec = yaml.safe_dump(_plain(facts.spec), sort_keys=False, allow_unicode=True)
    shown = [
        details("Spec", pre(spec, long=True)),
        details("Files", table(files)),
        details(
            "Versions and identity", pre("\n".join(f"{name}: {value}" for name, value in known.items()), long=True)
        ),
    ]
    return section("Details", "\n".join(part for part in shown if part))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
