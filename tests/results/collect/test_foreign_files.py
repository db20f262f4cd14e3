"""Small files that another version, or a hand, has written: status, report and compare say what they can, and never break down."""

import copy
import json
import random
import time

import msgspec
import pytest

from specbatch.results.attempts import Attempt
from specbatch.results.compare.compare import read_compared, warnings_of
from specbatch.results.compare.table import compare_json, render_csv, render_markdown, render_text
from specbatch.results.protocol import Progress, PublishState
from specbatch.results.report.charts import Charts, make_charts
from specbatch.results.report.facts import gather
from specbatch.results.report.page import render_page
from specbatch.results.report.sample import find_sample
from specbatch.results.shard.shard import ShardResults
from specbatch.results.status.status import read_status
from specbatch.results.status.status_text import render_status, status_json
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import as_type
from specbatch.results.summary import RunSummary
from specbatch.results.verification import Divergence, Verification
from tests.results.builders import IDENTITY, finish_run, make_row, make_summary, make_timeline

MANIFEST, PROGRESS = "manifest-00000-of-00001.json", "progress-00000-of-00001.json"
VALUES = [
    None,
    -1,
    0,
    1.5,
    "x",
    "",
    [],
    {},
    [1],
    {"a": 1},
    True,
    1e308,
    float("nan"),
    float("inf"),
    10**30,
    "\x1b[31m\n",
]


def places(value, path=()):
    """The path of everything in nested lists and dicts."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*path, name)
        yield from places(part, (*path, name))


def changed(document, chance):
    """The document with one thing in it missing or of another kind."""
    document = copy.deepcopy(document)
    *way, last = chance.choice(list(places(document)))
    at = document
    for name in way:
        at = at[name]
    if isinstance(at, dict) and chance.random() < 0.2:
        del at[last]
    else:
        at[last] = chance.choice(VALUES)
    return document


@pytest.fixture
def documents(run_dir):
    """A manifest and a progress file with everything in them; the run they belong to is in run_dir."""
    state = PublishState(destination="s3://b", pending_files=1, problem="no route", failing_since=5.0)
    now = Progress(seconds=2.0, rows=1, total_rows=9, phase_seconds={"verify": 1.0}, publish=state, eta_seconds=3.0)
    with ShardResults.open(run_dir, identity=IDENTITY) as store:
        store.save_progress(make_summary(store), make_timeline(4), "running", now, "no room")
    found = Verification(
        finished=1, sampled=1, seed=0, ties=1, target_only_tokens_per_second=5.0,
        divergences=(Divergence(id="a", index=0, kind="tie", position=0, recorded="a", target="b", margin=0.1, bound=1, excerpt="x"),),
    )  # fmt: skip
    spec = {
        "spec": {
            "target": {"dtype": "float32"},
            "drafter": {"method": "model"},
            "decoding": {"topK": 0},
            "placement": {},
        }
    }
    finish_run(
        run_dir, [make_row(0)], timeline=make_timeline(4), spec=spec, versions={"torch": "2"}, env={"TARGET_GPU": "cpu"},
        placement_tree="└── cpu  layers", dataset_rows=1, verification=found.to_json(),
    )  # fmt: skip
    return {name: json.loads((run_dir / name).read_bytes()) for name in (MANIFEST, PROGRESS)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_value_may_be_missing_or_of_another_kind(run_dir, documents, seed):
    chance = random.Random(seed)
    for _ in range(150):
        name = chance.choice([MANIFEST, PROGRESS])
        (run_dir / MANIFEST).write_text(json.dumps(documents[MANIFEST]))
        (run_dir / PROGRESS).write_text(json.dumps(documents[PROGRESS]))
        (run_dir / name).write_text(json.dumps(changed(documents[name], chance)))
        if chance.random() < 0.4:
            (run_dir / MANIFEST).unlink()
        run = read_status(Folder(run_dir), time.time())
        assert "\x1b" not in render_status(run)
        assert json.dumps(status_json(run), allow_nan=False)
        facts = gather(Folder(run_dir))
        make_charts(facts)
        assert "\x1b" not in render_page(facts, Charts(), {}, find_sample(facts, None))
        runs = [read_compared(Folder(run_dir), "a"), read_compared(Folder(run_dir), "b")]
        assert render_text(runs, width=80)
        assert render_markdown(runs)
        assert render_csv(runs)
        assert json.dumps([compare_json(runs), warnings_of(runs)], allow_nan=False)


def test_fields_of_a_later_version_are_skipped():
    attempt = Attempt(number=1, started_at=1.0, updated_at=2.0, outcome="done", summary=RunSummary(results=3))
    value = msgspec.to_builtins(attempt)
    value["summary"]["of_tomorrow"] = value["now"]["of_tomorrow"] = value["of_tomorrow"] = {"a": [1]}
    assert as_type(value, Attempt) == attempt
