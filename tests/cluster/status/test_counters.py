"""No counter is lost on its way from the engine to what people see, whatever fields there are."""

import dataclasses
import io
import json
import time

import msgspec
import pytest

from specbatch.cluster.client.kinds import PODS
from specbatch.cluster.status.job_run_text import run_json
from specbatch.cluster.status.read_run import read_run
from specbatch.engine.stats import EngineStats
from specbatch.merging import merge_rules
from specbatch.results.ended import Ended
from specbatch.results.protocol import Progress, parse_line
from specbatch.results.shard.shard import ShardResults
from specbatch.results.status.status import read_status
from specbatch.results.status.status_text import status_json
from specbatch.results.storage.folder import Folder
from specbatch.results.summary import Counters, RunSummary, combine
from specbatch.results.timeline import Timeline
from specbatch.results.totals import Totals
from specbatch.runner.display import JsonDisplay
from specbatch.runner.progress_meter import (
    _ENGINE_NAMES,
    LoadedInfo,
    ProgressMeter,
    counters_of,
    progress_of,
    summarize,
)
from tests.cluster.job_objects import pod_of, submitted
from tests.results.builders import IDENTITY

COUNTERS = Counters.__struct_fields__
# Of the engine's counters those that are its own: figures follow from them, and they are shown by other names.
ENGINES_OWN = {"finished", "failed", "active", "k_changes", "catch_up_seconds", "plain_rounds", "plain_seconds", "rounds_by_micro_batches"}  # fmt: skip


def counted(start):
    """Stats in which every counter has a value of its own."""
    stats = EngineStats()
    for number, one in enumerate(dataclasses.fields(EngineStats), start=start):
        value = getattr(stats, one.name)
        match value:
            case dict():
                setattr(stats, one.name, {name: float(number + at) for at, name in enumerate(value or ["cuda:0"])})
            case list():
                setattr(stats, one.name, [(number, 1)] if one.name == "k_changes" else [number, number + 1])
            case _:
                setattr(stats, one.name, type(value)(number))
    return stats


def total(mine, yours, name):
    if merge_rules(Counters)[name].at_once.__name__ == "largest":
        return max(mine, yours)
    if isinstance(mine, dict):
        return {key: mine[key] + yours[key] for key in mine}
    return [a + b for a, b in zip(mine, yours, strict=True)] if isinstance(mine, list | tuple) else mine + yours


@pytest.fixture
def engines():
    return [counted(1000), counted(5000)]


@pytest.fixture
def expected(engines):
    """name -> the value of both engines together."""
    names = {name: _ENGINE_NAMES.get(name, name) for name in COUNTERS}
    return {name: total(*(getattr(stats, of) for stats in engines), name) for name, of in names.items()}


def snapshot(stats):
    meter = ProgressMeter(
        lambda seconds: progress_of(stats, Totals(), Ended(), seconds=seconds),
        lambda progress, last: None,
    )
    meter.start()
    meter.close()
    return meter.last


def plain(expected):
    return json.loads(json.dumps(expected))


def test_every_counter_of_the_engine_is_one_of_the_protocol_or_its_own():
    engine = {one.name for one in dataclasses.fields(EngineStats)}
    assert {_ENGINE_NAMES.get(name, name) for name in COUNTERS} == engine - ENGINES_OWN


@pytest.mark.parametrize("name", COUNTERS)
def test_every_counter_arrives_in_the_merged_total_the_snapshot_and_the_summary(engines, expected, name):
    merged = EngineStats.merged(engines)
    assert counters_of(merged)[name] == (tuple(expected[name]) if isinstance(expected[name], list) else expected[name])
    assert getattr(snapshot(merged), name) == counters_of(merged)[name]
    summary = summarize(merged, written=Totals(), totals=Totals(), skipped=0, seconds=1.0, loaded=LoadedInfo())
    assert getattr(summary, name) == counters_of(merged)[name]


def test_every_counter_arrives_in_the_log_line_and_is_read_back_from_it(engines, expected):
    now, stream = snapshot(EngineStats.merged(engines)), io.StringIO()
    JsonDisplay(stream).show(now)
    line = json.loads(stream.getvalue())
    assert {name: line[name] for name in COUNTERS} == plain(expected)
    assert parse_line(stream.getvalue()).counters == now.counters


def test_every_counter_arrives_in_the_status_of_a_folder(engines, expected, tmp_path):
    merged = EngineStats.merged(engines)
    with ShardResults.open(tmp_path / "run", identity=IDENTITY) as store:
        store.save_progress(RunSummary(**counters_of(merged), seconds=1.0), Timeline(), "running", snapshot(merged))
        at_work = status_json(read_status(Folder(tmp_path / "run"), time.time()))
    assert at_work["shards"][0]["verdict"] == "running"
    for value in (at_work, at_work["shards"][0]):
        assert plain({name: value[name] for name in COUNTERS}) == plain(expected)


def test_every_counter_of_two_pods_arrives_in_the_status_of_their_job(api, engines):
    parts = [snapshot(stats) for stats in engines]
    job = submitted(api, completions=2, status={"ready": 2})
    for index, now in enumerate(parts):
        made = api.put(PODS, pod_of(job, index))
        stream = io.StringIO()
        JsonDisplay(stream).show(now)
        api.logs[made["metadata"]["name"]] = stream.getvalue()
    value = run_json(read_run(api.cluster(), None, time.time()))
    assert plain({name: value[name] for name in COUNTERS}) == plain(Progress.merged(parts).counters)
    assert value["drafted"] == sum(stats.drafted for stats in engines)


def test_every_counter_of_attempts_and_of_shards_is_in_their_total(engines):
    parts = [summarize(one, written=Totals(), totals=Totals(), skipped=0, seconds=1.0, loaded=LoadedInfo()) for one in engines]  # fmt: skip
    for at_once in (False, True):
        both = msgspec.to_builtins(combine(parts, Totals(), at_once=at_once).counters)
        untouched = msgspec.to_builtins(RunSummary().counters)
        assert all(both[name] != untouched[name] for name in COUNTERS)
        assert both["drafted"] == sum(part.drafted for part in parts)


class Tomorrow(RunSummary, frozen=True):
    """A release that counts one thing more."""

    cache_hits: int = 0


def test_a_counter_that_is_added_to_the_struct_is_in_the_total_without_another_line():
    assert combine([Tomorrow(cache_hits=3), Tomorrow(cache_hits=4)], Totals()).cache_hits == 7
    assert combine([Tomorrow(cache_hits=3), Tomorrow(cache_hits=4)], Totals(), at_once=True).cache_hits == 7
