import gc
import threading
import time

import pytest

from specbatch.api import DecodingSpec
from specbatch.engine.logits.options import NO_OPTIONS
from specbatch.engine.request import Completion
from specbatch.engine.stats import EngineStats
from specbatch.errors import DatasetError
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.lines import Shard
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.replicas import decode_all
from specbatch.runner.requests import RequestMaker, RequestSource
from specbatch.runner.rows import window
from specbatch.runner.rows.prefetcher import RowPrefetcher
from specbatch.runner.rows.prompts import Prompt
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import dataset_at, row_rules, write_rows


class Encoder:
    """Prompt tokens without a tokenizer; `gate` holds up the rows from the second on."""

    def __init__(self, gate=None):
        self.gate = gate
        self.encoded = 0

    def prompt(self, row):
        if self.gate is not None and self.encoded:
            self.gate.wait(10)
        self.encoded += 1
        if row.prompt == "bad":
            raise RowError("tokenization", "no")
        return Prompt([1, 2, 3])

    def logits_options(self, row):
        return NO_OPTIONS

    def grammar(self, row):
        return None


def start_prefetcher(tmp_path, rows, *, encoder=None, finished=lambda *row: False, capacity=8, shard=Shard()):  # noqa: B008 - frozen
    bad = []
    prefetcher = RowPrefetcher(
        dataset_at(write_rows(tmp_path / "rows.jsonl", rows)),
        RowReader(row_rules(DecodingSpec())),
        encoder or Encoder(),
        shard=shard,
        finished=finished,
        on_bad=bad.append,
        capacity=capacity,
    )
    prefetcher.start()
    return prefetcher, bad


ROWS = [{"id": f"r{number}", "prompt": "x"} for number in range(20)]


def taken(prefetcher):
    ids = []
    while (prepared := prefetcher.take(wait=True)) is not None:
        ids.append(prepared.row.id)
    return ids


def test_rows_come_in_order_without_the_finished_and_the_bad(tmp_path):
    rows = [*ROWS[:3], b"broken", {"id": "b", "prompt": "bad"}, *ROWS[3:5]]
    prefetcher, bad = start_prefetcher(tmp_path, rows, finished=lambda row_id, fingerprint, index: row_id == "r1")
    assert taken(prefetcher) == ["r0", "r2", "r3", "r4"]
    assert [row.index for row in bad] == [3, 4]
    assert prefetcher.skipped == 1
    assert prefetcher.exhausted
    assert prefetcher.total_rows() == 7
    prefetcher.close()


@pytest.mark.slow
def test_feed_reads_ahead_by_no_more_than_its_capacity(tmp_path):
    encoder = Encoder()
    prefetcher, _ = start_prefetcher(tmp_path, ROWS, encoder=encoder, capacity=3)
    assert prefetcher.wait_for_row()
    time.sleep(0.2)
    assert encoder.encoded <= 5
    prefetcher.close()
    assert not prefetcher.exhausted


@pytest.mark.parametrize("large", [{"prompt": "x" * 1000}, {"prompt": "x", "notes": {"seen": ["y" * 500, "z" * 500]}}])
def test_large_rows_are_read_ahead_by_no_more_than_a_few(tmp_path, monkeypatch, large):
    monkeypatch.setattr(window, "_MOST_BYTES", 5000)
    encoder = Encoder()
    prefetcher, _ = start_prefetcher(tmp_path, [large] * 20, encoder=encoder, capacity=20)
    while encoder.encoded < 4:
        time.sleep(0.01)
    time.sleep(0.05)
    assert 4 <= encoder.encoded <= 6
    rows = []
    while (row := prefetcher.take(wait=True)) is not None:
        rows.append(row.row.index)
    assert rows == [*range(20)]


@pytest.mark.slow
def test_stop_ends_the_supply_for_whoever_waits(tmp_path):
    gate = threading.Event()
    prefetcher, _ = start_prefetcher(tmp_path, ROWS, encoder=Encoder(gate))
    assert prefetcher.take(wait=True).row.id == "r0"
    threading.Timer(0.1, prefetcher.stop).start()
    assert prefetcher.take(wait=True) is None
    assert not prefetcher.wait_for_row()
    gate.set()
    prefetcher.close()


def test_take_without_waiting_gives_none_while_no_row_is_ready(tmp_path):
    gate = threading.Event()
    prefetcher, _ = start_prefetcher(tmp_path, ROWS[:2], encoder=Encoder(gate))
    assert prefetcher.take(wait=True).row.id == "r0"
    assert prefetcher.take(wait=False) is None
    gate.set()
    assert prefetcher.take(wait=True).row.id == "r1"
    assert prefetcher.take(wait=True) is None
    prefetcher.close()


def test_what_ends_the_reading_is_raised_by_close(tmp_path):
    prefetcher, _ = start_prefetcher(tmp_path, ROWS)
    prefetcher.close()
    (tmp_path / "rows.jsonl.gz").write_bytes(b"broken")
    broken = RowPrefetcher(
        dataset_at(tmp_path / "rows.jsonl.gz"),
        RowReader(row_rules(DecodingSpec())),
        Encoder(),
        shard=Shard(),
        finished=lambda *_: False,
        on_bad=lambda _: None,
        capacity=1,
    )
    broken.start()
    assert broken.take(wait=True) is None
    with pytest.raises(DatasetError):
        broken.close()


@pytest.mark.parametrize("shard", range(3))
def test_total_rows_are_those_of_the_shard(tmp_path, shard):
    prefetcher, _ = start_prefetcher(tmp_path, ROWS, shard=Shard(shard, 3))
    assert len(taken(prefetcher)) == prefetcher.total_rows() == len(ROWS[shard::3])
    prefetcher.close()


class FakeEngine:
    """Ends each row a few rounds after it came; asks for rows as Engine does, before every round."""

    def __init__(self, slots=2, on_round=lambda active: None, fail_at=None):
        self.stats = EngineStats(max_sequences=slots)
        self.slots = slots
        self.on_round = on_round
        self.fail_at = fail_at

    def generate(self, requests):
        source, active = iter(requests), []
        while True:
            while len(active) < self.slots and (request := next(source, None)) is not None:
                active.append([request, 3])
            if not active:
                return
            self.on_round(len(active))
            if self.stats.finished == self.fail_at:
                raise RuntimeError("the device failed")
            for entry in active:
                entry[1] -= 1
            for request, _ in [entry for entry in active if entry[1] == 0]:
                self.stats.finished += 1
                yield Completion(request, [5], "length")
            active = [entry for entry in active if entry[1] > 0]


@pytest.fixture
def maker(tokenizer):
    return RequestMaker(Detokenizer(tokenizer), frozenset({1}))


def test_slow_reader_never_holds_up_rows_in_flight(tmp_path, maker):
    gate = threading.Event()
    prefetcher, _ = start_prefetcher(tmp_path, ROWS[:3], encoder=Encoder(gate))
    rounds = []
    engine = FakeEngine(on_round=rounds.append)
    decoding = decode_all([engine], RequestSource(prefetcher, maker))
    first = next(decoding)  # comes although no second row is ready
    assert (first.prepared.row.id, rounds) == ("r0", [1, 1, 1])
    gate.set()
    assert [decoded.prepared.row.id for decoded in decoding] == ["r1", "r2"]
    prefetcher.close()


@pytest.mark.slow
@pytest.mark.usefixtures("setting_aside")
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_replicas_share_one_feed_and_every_row_comes_once(tmp_path, maker, replicas):
    prefetcher, _ = start_prefetcher(tmp_path, ROWS)
    engines = [FakeEngine(on_round=lambda active: time.sleep(0.002)) for _ in range(replicas)]
    decoded, set_aside = [], 0
    for one in decode_all(engines, RequestSource(prefetcher, maker)):
        decoded.append(one)
        set_aside = set_aside or gc.get_freeze_count()  # once: it counts for 20 ms
    assert set_aside > 10_000  # Python's search for garbage leaves out all that was there before
    assert gc.get_freeze_count() < 10_000
    assert sorted(one.prepared.row.id for one in decoded) == sorted(row["id"] for row in ROWS)
    assert all(one.prepared.row.id == one.completions[0].request.id for one in decoded)
    assert EngineStats.merged([engine.stats for engine in engines]).finished == 20
    if replicas > 1:
        assert sum(engine.stats.finished > 0 for engine in engines) > 1
    prefetcher.close()


def test_a_row_that_wants_several_completions_ends_once_with_all_of_them_in_order(tmp_path, maker):
    rows = [
        {"id": "a#0", "prompt": "x"},
        {"id": "a", "prompt": "x", "n": 5, "temperature": 1},
        {"id": "b", "prompt": "x"},
    ]
    prefetcher, _ = start_prefetcher(tmp_path, rows)
    decoded = {one.prepared.row.id: one for one in decode_all([FakeEngine()], RequestSource(prefetcher, maker))}
    ids = {name: [completion.request.id for completion in one.completions] for name, one in decoded.items()}
    assert ids == {"a#0": ["a#0"], "a": [f"a#{number}" for number in range(5)], "b": ["b"]}
    prefetcher.close()


@pytest.mark.parametrize("replicas", [1, 2])
def test_failure_of_an_engine_is_raised(tmp_path, maker, replicas):
    prefetcher, _ = start_prefetcher(tmp_path, ROWS)
    failing, fails = FakeEngine(fail_at=2), threading.Event()
    failing.on_round = lambda _: failing.stats.finished == 2 and fails.set()
    # The others leave it the rows that it fails at.
    engines = [failing, *(FakeEngine(on_round=lambda _: fails.wait(60)) for _ in range(replicas - 1))]
    with pytest.raises(RuntimeError, match="device failed"):
        list(decode_all(engines, RequestSource(prefetcher, maker)))
    prefetcher.close()


def test_request_carries_what_the_row_asks(tmp_path, maker):
    row = {
        "id": "a",
        "prompt": "x",
        "temperature": 0.5,
        "topK": 4,
        "topP": 0.9,
        "seed": 7,
        "stop": "z",
        "max_tokens": 9,
    }
    prefetcher, _ = start_prefetcher(tmp_path, [row, {"id": "b", "prompt": "x", "ignoreEos": True}])
    source = RequestSource(prefetcher, maker)
    request = next(source)
    assert (request.id, request.max_new_tokens, request.seed) == ("a", 9, 7)
    assert (request.sampling.temperature, request.sampling.top_k, request.sampling.top_p) == (0.5, 4, 0.9)
    assert request.eos_token_ids == frozenset({1})
    assert request.stop is not None
    assert source.in_flight == 1
    assert source.finish(Completion(request, [5], "length")).prepared.row.id == "a"
    other = next(source)
    assert (other.eos_token_ids, other.stop) == (frozenset(), None)
    prefetcher.close()


def test_merged_stats_add_up():
    first = EngineStats(drafted=3, accepted=2, drafted_by_position=[2, 1], k_changes=[(0, 2)], warmup_seconds=1.0)
    second = EngineStats(drafted=1, accepted=1, drafted_by_position=[1], warmup_seconds=2.0)
    second.seconds["draft"] = 4.0
    merged = EngineStats.merged([first, second])
    assert (merged.drafted, merged.accepted, merged.drafted_by_position) == (4, 3, [3, 1])
    assert (merged.k_changes, merged.warmup_seconds, merged.seconds["draft"]) == ([(0, 2)], 2.0, 4.0)
    assert EngineStats.merged([]).rounds == 0
