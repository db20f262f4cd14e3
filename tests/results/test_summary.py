import json
import threading
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from specbatch.results.attempts import read_attempts, write_attempts
from specbatch.results.protocol import Finished, Progress
from specbatch.results.speedup import estimated_speedup
from specbatch.results.status.progress_text import event_line, progress_lines
from specbatch.results.summary import RunSummary, combine, thinned
from specbatch.results.summary_text import render_summary
from specbatch.results.timeline import Sample, Timeline
from specbatch.results.totals import Totals

WHOLE = RunSummary(
    results=195,
    errors=3,
    skipped=5,
    seconds=12.5,
    load_seconds=1.5,
    warmup_seconds=0.8,
    prompt_tokens=4000,
    completion_tokens=6125,
    rounds=60,
    row_rounds=240,
    drafted=960,
    accepted=620,
    drafted_by_position=(240, 240),
    accepted_by_position=(210, 170),
    k_changes=((0, 4), (20, 2)),
    phase_seconds={"draft": 3.0, "verify": 6.0, "host": 1.0, "idle": 0.001},
    max_sequences=8,
    predicted_tokens_per_second=900.0,
    target_only_tokens_per_second=300.0,
    totals=Totals(
        results=200, errors=3, scored=200, correct=190, errors_by_code={"empty_prompt": 1, "invalid_json": 2}
    ),
)


def test_the_summary_reads_well():
    assert render_summary(WHOLE, name="nightly", results="/r/nightly", report="/r/nightly/report.html") == (
        "nightly\n"
        "  rows           195 done, 3 errors, 5 skipped (finished before)\n"
        "  right answers  190 of 200 (95.0%)\n"
        "  speed          490.0 tokens/s (6,125 tokens), 1.63x the target alone (estimated), 54% of the predicted ceiling\n"
        "  time           12.5 s decoding (before it: loading 1.50 s, warm-up 0.80 s)\n"
        "  speculation    acceptance_rate 0.646, mean_acceptance_length 3.58 tokens per target forward\n"
        "  time went to   verify 60%, draft 30%, host 10%\n"
        "  errors         invalid_json 2, empty_prompt 1\n"
        "  results        /r/nightly\n"
        "  report         /r/nightly/report.html"
    )


def test_the_engine_is_said_where_there_was_a_choice():
    slow = "general, since the target has no fast path: its architecture is gemma3"
    assert f"  engine         {slow}\n" in render_summary(replace(WHOLE, engine=slow))
    assert "engine" not in render_summary(replace(WHOLE, engine="general"))
    many = [replace(WHOLE, engine=engine) for engine in ("recorded rounds", "", slow, slow)]
    assert combine(many, Totals()).engine == f"recorded rounds; {slow}"


def test_what_was_read_once_for_several_rows_is_told_where_there_is_any():
    forced = render_summary(replace(WHOLE, grammar_drafted=120))
    assert f"120 of {WHOLE.drafted:,} drafts were forced by grammars" in forced
    shared = render_summary(replace(WHOLE, prefill_tokens_saved=3000))
    assert "\n  prompts        4,000 tokens, 75% of them read once for several rows\n" in shared
    together = replace(WHOLE, prefill_tokens_saved=3000, cascade_rounds=WHOLE.rounds // 2)
    assert "for several rows; cascade attention in 50% of the rounds\n" in render_summary(together)
    assert combine([replace(WHOLE, prefill_tokens_saved=3000)] * 2, Totals()).prefill_tokens_saved == 6000


def test_a_summary_of_nothing_says_only_what_is_known():
    assert render_summary(RunSummary()) == "  rows  0 done, 0 errors"
    quick = RunSummary(results=1, seconds=1.0, completion_tokens=3)
    assert "tokens/s (3 tokens)\n" in render_summary(quick)
    assert "ceiling" not in render_summary(quick)
    assert ", against the target alone: unknown, specbatch verify measures it\n" in render_summary(
        replace(quick, drafted=4)
    )
    nothing = RunSummary()
    assert (nothing.tokens_per_second, nothing.acceptance_rate, nothing.mean_acceptance_length) == (0.0, 0.0, 1.0)
    assert nothing.fraction_of_ceiling is None
    assert estimated_speedup(nothing) is None


def test_acceptance_that_no_engine_counted_is_not_said_to_be_nothing():
    uncounted = replace(
        WHOLE, drafted=0, accepted=0, drafted_by_position=(), accepted_by_position=(), k_changes=((0, 4),)
    )
    text = render_summary(uncounted)
    assert "  speculation    no drafts were counted, k 4\n" in text
    assert "acceptance" not in text
    assert "speculation" not in render_summary(replace(uncounted, k_changes=((0, 0),)))
    now = Progress(rows=3, total_rows=9, completion_tokens=90, seconds=1.0, num_speculative_tokens=4)
    for said in (event_line(now), event_line(Finished(uncounted)), *(text for _, text in progress_lines(now))):
        assert "acceptance" not in said
    drafted = replace(now, drafted=8, accepted=0)
    assert "acceptance 0.000" in event_line(drafted)
    assert ("speculation", "acceptance_rate 0.000, mean_acceptance_length 1.00, k 4") in progress_lines(drafted)


def test_a_summary_comes_back_from_json():
    assert msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(WHOLE))), RunSummary) == WHOLE


def test_a_summary_with_many_changes_of_k_stays_small():
    kept = thinned([(number, number % 5) for number in range(100_003)])
    assert len(kept) <= 501
    assert kept[0] == (0, 0)
    assert kept[-1] == (100_002, 2)
    assert thinned([]) == ()


def test_attempts_add_up_one_after_the_other():
    second = RunSummary(
        results=5, skipped=198, seconds=2.5, rounds=10, drafted=40, drafted_by_position=(10, 10, 10),
        k_changes=((3, 1),), phase_seconds={"verify": 1.0, "prefill": 2.0}, max_sequences=4,
    )  # fmt: skip
    both = combine([WHOLE, second], Totals(results=200))
    assert (both.results, both.errors, both.skipped, both.seconds, both.max_sequences) == (200, 3, 198, 15.0, 4)
    assert both.drafted_by_position == (250, 250, 10)
    assert both.k_changes == ((0, 4), (20, 2), (63, 1))
    assert both.phase_seconds == {"draft": 3.0, "verify": 7.0, "host": 1.0, "idle": 0.001, "prefill": 2.0}
    assert both.predicted_tokens_per_second == 900.0
    assert both.totals.results == 200


def test_shards_that_ran_at_once_add_their_speeds():
    both = combine([WHOLE, WHOLE], Totals(), at_once=True)
    assert both.tokens_per_second == pytest.approx(2 * WHOLE.tokens_per_second)
    assert both.fraction_of_ceiling == pytest.approx(WHOLE.fraction_of_ceiling)
    assert both.max_sequences == 16
    assert combine([WHOLE, RunSummary()], Totals(), at_once=True).predicted_tokens_per_second is None


def test_no_attempts_are_an_empty_summary():
    assert combine([], Totals(results=3)) == RunSummary(totals=Totals(results=3))


def sample(t):
    return Sample(t=t, rows=int(t), completion_tokens=int(10 * t), k=3)


@given(st.lists(st.floats(0, 1e6), max_size=400).map(sorted), st.integers(2, 20))
def test_a_timeline_is_bounded_ordered_and_keeps_both_ends(times, limit):
    timeline = Timeline(limit=limit)
    timeline.extend(sample(t) for t in times)
    kept = [each.t for each in timeline.samples]
    assert len(kept) <= limit + 1
    assert kept == sorted(kept)
    assert set(kept) <= set(times)
    if times:
        assert (kept[0], kept[-1]) == (times[0], times[-1])


@pytest.mark.slow
def test_a_timeline_is_read_while_another_thread_adds():
    timeline = Timeline(limit=8, interval=1.0)
    adding = threading.Thread(target=timeline.extend, args=[[sample(step * 0.01) for step in range(60_000)]])
    adding.start()
    while adding.is_alive():
        times = [each.t for each in timeline.samples]
        assert times == sorted(times)
    adding.join()


def test_a_long_timeline_stays_even():
    timeline = Timeline(limit=100, interval=0.1)
    timeline.extend(sample(step * 0.05) for step in range(100_000))
    times = [each.t for each in timeline.samples]
    gaps = [after - before for before, after in pairwise(times[:-1])]
    assert len(times) > 40
    assert max(gaps) < 2.2 * min(gaps)


def test_a_sample_comes_back_from_json():
    one = Sample(t=1.5, rows=2, completion_tokens=30, drafted=9, accepted=7, k=3, active=8)
    assert msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(one))), Sample) == one


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"attempts": [{}]}'])
def test_a_missing_or_broken_progress_file_is_no_attempts(tmp_path, content):
    if content is not None:
        (tmp_path / "progress-00000-of-00001.json").write_bytes(content)
    assert read_attempts(tmp_path, 0, 1) == ()


def test_many_attempts_keep_a_small_file(tmp_path):
    from specbatch.results.attempts import Attempt

    line = tuple(sample(t) for t in range(240))
    attempts = [
        Attempt(number=n, started_at=n, updated_at=n + 1, outcome="stopped", summary=WHOLE, timeline=line)
        for n in range(1, 31)
    ]
    write_attempts(tmp_path, 0, 1, attempts)
    back = read_attempts(tmp_path, 0, 1)
    assert [attempt.number for attempt in back] == list(range(1, 31))
    assert [len(attempt.timeline) for attempt in back] == [0] * 20 + [240] * 10
    assert (tmp_path / "progress-00000-of-00001.json").stat().st_size < 150_000


def test_how_busy_each_gpu_was_is_said_where_it_was_measured():
    two = replace(
        WHOLE,
        device_busy_seconds={"cuda:0": 0.93, "cuda:1": 0.61},
        device_sampled_seconds={"cuda:0": 1.0, "cuda:1": 1.0},
    )
    assert "cuda:0 93%, cuda:1 61%, between the ends of rounds" in render_summary(two)
    assert "GPUs at work" not in render_summary(WHOLE)
    both = combine([two, replace(two, device_busy_seconds={"cuda:0": 0.73, "cuda:1": 0.61})], Totals(), at_once=True)
    assert both.device_busy == pytest.approx({"cuda:0": 0.83, "cuda:1": 0.61})
