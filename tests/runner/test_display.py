import io
import json
import re
import time

import pytest
from msgspec.structs import replace
from rich.console import Console

from specbatch.engine.stats import EngineStats
from specbatch.results.ended import Ended
from specbatch.results.protocol import Finished, Progress, PublishState, Started
from specbatch.results.summary import RunSummary
from specbatch.results.totals import Totals
from specbatch.runner.display import Display, JsonDisplay, RichDisplay, TextDisplay, choose_display, render_progress
from specbatch.runner.progress_meter import LoadedInfo, ProgressMeter, progress_of, summarize

PROGRESS = Progress(
    seconds=10.0,
    rows=40,
    total_rows=100,
    errors=2,
    skipped=5,
    active=8,
    completion_tokens=5000,
    tokens_per_second=512.34,
    acceptance_rate=0.71234,
    mean_acceptance_length=3.1,
    num_speculative_tokens=4,
    eta_seconds=75.0,
    fraction_of_ceiling=0.54321,
    phase_seconds={"verify": 6.0, "draft": 3.0, "idle": 1.0},
    publish=PublishState(
        destination="s3://bucket/runs/nightly",
        done_files=120,
        done_bytes=12_345_678_901,
        pending_files=3,
        pending_bytes=4_500_000,
        problem="cannot copy the file: no route to host",
        failing_since=time.time() - 3725,
    ),
)


def show_all(display):
    display.show(Started("nightly", "/results/nightly"))
    display.step("loading")
    display.show(PROGRESS)
    display.show(PROGRESS)
    display.show(PROGRESS, last=True)
    display.show(Finished(RunSummary(results=38, errors=2), "/results/nightly"))
    display.close()


def test_json_lines_have_stable_keys_and_come_every_few_seconds():
    stream = io.StringIO()
    show_all(JsonDisplay(stream))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["start", "step", "progress", "progress", "end"]
    assert set(events[2]) == {
        "event", "seconds", "rows", "total_rows", "errors", "skipped", "active", "completion_tokens",
        "tokens_per_second", "acceptance_rate", "mean_acceptance_length", "num_speculative_tokens", "eta_seconds",
        "fraction_of_ceiling", "phase_seconds", "publish", "total_rows_estimated", "dataset_rows", "waiting",
        "prompt_tokens", "rounds", "row_rounds", "prefill_tokens_saved", "cascade_rounds", "drafted", "accepted", "grammar_drafted", "grammar_accepted", "drafted_by_position", "accepted_by_position",
        "warmup_seconds", "max_sequences", "target_only_tokens_per_second", "device_busy_seconds", "device_sampled_seconds",
        "micro_batches",
    }  # fmt: skip
    assert events[2]["acceptance_rate"] == 0.7123
    assert events[2]["phase_seconds"] == {"verify": 6.0, "draft": 3.0, "idle": 1.0}
    assert events[2]["publish"]["problem"] == "cannot copy the file: no route to host"
    assert events[4]["summary"]["results"] == 38
    assert events[4]["report"] is None


def test_piped_output_is_plain_lines_that_end_in_the_summary():
    stream = io.StringIO()
    show_all(TextDisplay(stream))
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["started nightly, results in /results/nightly", "loading"]
    for line in lines[2:4]:
        assert line.startswith("rows 40 of 100 · 2 errors · 512 tokens/s · acceptance 0.712 · 1 min left")
        assert line.endswith("publishing fails: cannot copy the file: no route to host")
    assert lines[4] == "nightly"
    assert "38 done, 2 errors" in lines[5]
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_of_80_columns_shows_every_quantity_whole():
    stream = io.StringIO()
    show_all(RichDisplay(Console(file=stream, force_terminal=True, no_color=True, width=80)))
    text = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).split())
    for part in (
        "nightly", "loading", "1 min 15 s left", "40 of 100, 2 errors, 5 skipped, batch 8",
        "512.3 tokens/s, 54% of the predicted ceiling", "acceptance_rate 0.712, mean_acceptance_length 3.10, k 4",
        "verify 60%, draft 30%, idle 10%", "120 files (12.3 GB) at s3://bucket/runs/nightly", "3 waiting (4.5 MB)",
        "failing for 1 h ", " min: cannot copy the file: no route to host",
    ):  # fmt: skip
        assert part in text, part


def test_what_is_not_known_is_not_shown():
    console = Console(file=io.StringIO(), width=80)
    console.print(render_progress(replace(PROGRESS, fraction_of_ceiling=None, phase_seconds={}, publish=None)))
    text = console.file.getvalue()
    assert not {"ceiling", "time", "published"} & set(text.split())


def test_unknown_total_is_said_as_unknown():
    console = Console(file=io.StringIO(), width=140)
    console.print(render_progress(replace(PROGRESS, total_rows=None, eta_seconds=None)))
    assert "40 of ?," in console.file.getvalue()


def test_display_suits_the_stream(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert type(choose_display(io.StringIO())) is TextDisplay
    assert type(choose_display(Terminal())) is RichDisplay
    assert type(choose_display(Terminal(), log_format="json")) is JsonDisplay
    assert type(choose_display(io.StringIO(), log_format="json")) is JsonDisplay
    monkeypatch.setenv("TERM", "dumb")
    assert type(choose_display(Terminal())) is TextDisplay
    assert type(choose_display(Terminal(), quiet=True)) is Display
    show_all(Display())


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def metered():
    stats, written, clock = EngineStats(), Totals(), Clock()
    found = Ended(rows=10, errors=1)
    meter = ProgressMeter(
        lambda seconds: replace(progress_of(stats, written, found, seconds=seconds), total_rows=110),
        lambda progress, last: None,
        clock=clock,
    )
    meter.start()
    yield meter, stats, written, clock
    meter.close()


def test_speed_is_that_of_the_last_seconds(metered):
    meter, stats, written, clock = metered
    for _ in range(30):  # 100 tokens and one row a second
        clock.now += 1
        stats.emitted += 100
        written.results += 1
        slow = meter.snapshot()
    assert slow.tokens_per_second == pytest.approx(100, rel=0.15)
    assert slow.rows == 40
    assert slow.eta_seconds == pytest.approx(70, rel=0.15)
    for _ in range(20):
        clock.now += 1
        stats.emitted += 900
        written.results += 2
        fast = meter.snapshot()
    assert fast.tokens_per_second == pytest.approx(900, rel=0.1)
    written.results += 100
    assert meter.snapshot().eta_seconds == 0.0


def test_a_snapshot_holds_the_ceiling_the_phases_and_publishing_and_the_last_one_is_kept():
    stats, clock, state = EngineStats(emitted=500, seconds={"verify": 2.0}), Clock(), PublishState(destination="s3://b")
    meter = ProgressMeter(
        lambda seconds: replace(progress_of(stats, Totals(), Ended(), seconds=seconds, ceiling=200.0), publish=state),
        lambda progress, last: None,
        clock=clock,
    )
    assert meter.last == Progress()
    meter.start()
    clock.now += 5
    snapshot = meter.snapshot()
    meter.close()
    assert (snapshot.fraction_of_ceiling, snapshot.phase_seconds, snapshot.publish) == (0.5, {"verify": 2.0}, state)
    assert meter.last.publish == state


@pytest.mark.slow
def test_meter_takes_snapshots_by_itself_and_once_more_at_the_end():
    shown = []
    meter = ProgressMeter(lambda seconds: Progress(seconds=seconds), lambda progress, last: shown.append(last))
    assert meter.seconds == 0.0
    meter.start()
    time.sleep(0.7)
    meter.close()
    meter.close()
    assert shown.count(True) == 1
    assert shown.count(False) >= 1
    seconds = meter.seconds
    assert seconds > 0.6
    assert meter.seconds == seconds
    assert meter.timeline.samples


def test_summary_takes_counts_from_the_engine_and_rows_from_the_files():
    stats = EngineStats(emitted=50, drafted=10, accepted=5, rounds=7, row_rounds=9, prompt_tokens=30)
    summary = summarize(
        stats,
        written=Totals(results=3, errors=1),
        totals=Totals(results=5),
        skipped=2,
        seconds=2.0,
        loaded=LoadedInfo(load_seconds=1.0, ceiling=lambda _: 100.0),
    )
    assert (summary.results, summary.errors, summary.skipped, summary.totals.results) == (3, 1, 2, 5)
    assert (summary.tokens_per_second, summary.fraction_of_ceiling, summary.acceptance_rate) == (25.0, 0.25, 0.5)
