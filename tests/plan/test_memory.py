from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.engine.graphs import paging
from specbatch.plan.memory import PAGE, device_uses, gib, kv_tokens, most_length, most_rows
from specbatch.plan.placing import Group, Replica
from tests.plan.builders import H100, plan_of, shape

GPUS = {"cuda:0": H100, "cuda:1": H100}
SAME = [Replica(Group(shape("qwen3-8b"), ("cuda:0",)), Group(shape("qwen3-1.7b"), ("cuda:0",)))]
SPLIT = [Replica(Group(shape("qwen3-8b"), ("cuda:0", "cuda:1")), None)]


def used(replicas, rows, length, k):
    return [u.memory_bytes - u.free_bytes for u in device_uses(replicas, GPUS, rows=rows, max_length=length, max_k=k)]


def test_one_gpu_holds_both_models_and_both_caches():
    (use,) = device_uses(SAME, GPUS, rows=10, max_length=1000, max_k=7)
    models = (shape("qwen3-8b"), shape("qwen3-1.7b"))
    assert use.weight_bytes == sum(model.weight_bytes for model in models)
    assert use.kv_bytes == 10 * 1024 * sum(model.kv_bytes_per_token for model in models)  # 1008 positions are 16 pages


def test_a_split_stores_every_byte_once():
    uses = device_uses(SPLIT, GPUS, rows=10, max_length=1000, max_k=0)
    assert sum(use.weight_bytes for use in uses) == shape("qwen3-8b").weight_bytes
    assert sum(use.kv_bytes for use in uses) == 10 * 1024 * shape("qwen3-8b").kv_bytes_per_token


def test_devices_that_are_not_used_are_not_listed():
    assert [use.device for use in device_uses(SAME, GPUS, rows=1, max_length=8, max_k=0)] == ["cuda:0"]


A_PAGE = 64 * 2**18  # 64 positions of both models: 144 + 112 KiB each


@given(rows=st.integers(1, 300), length=st.integers(2, 8000), k=st.integers(0, 16), split=st.booleans())
def test_memory_grows_with_rows_length_and_k(rows, length, k, split):
    replicas = SPLIT if split else SAME
    base = used(replicas, rows, length, k)
    for more in (
        used(replicas, rows + 1, length, k),
        used(replicas, rows, length + 1, k),
        used(replicas, rows, length, k + 1),
    ):
        # Where KV takes all that is left, it takes it by whole pages: of one page less may be used.
        assert all(after > before - A_PAGE for before, after in zip(base, more, strict=True))


@given(length=st.integers(16, 30000), k=st.integers(0, 8))
def test_auto_takes_rows_that_fit_and_hardly_more_would(length, k):
    rows = most_rows(SAME, GPUS, max_length=length, max_k=k, cap=512)
    assert 0 < rows <= 512
    assert used(SAME, rows, length, k)[0] <= H100.memory_bytes
    if rows < 512:
        assert used(SAME, rows + (8 if rows >= 16 else 1), length, k)[0] > H100.memory_bytes


def test_the_longest_length_fits_and_one_more_does_not():
    length = most_length(SAME, GPUS, rows=64, max_k=8, max_length=100_000)
    assert used(SAME, 64, length, 8)[0] <= H100.memory_bytes < used(SAME, 64, length + 1, 8)[0]


def test_auto_rows_are_capped_where_more_would_only_wait():
    assert plan_of("H100", "batching.maxLength=300", target="qwen3-0.6b", drafter=None).max_sequences == 512


def test_one_row_too_many_is_reported_with_the_number_that_fits():
    fits = plan_of("H100").max_sequences
    tight = plan_of("H100", "batching.maxSequences=400")
    assert not tight.fits
    assert tight.devices[0].free_bytes < 0
    assert "lacks" in tight.problems[0]
    found = int(tight.problems[-1].split("maxSequences ")[1].split()[0])
    assert found == pytest.approx(fits, abs=8)
    assert plan_of("H100", f"batching.maxSequences={found}").fits


def test_a_row_too_long_is_reported_with_the_length_that_fits():
    long = plan_of("H100", "batching.maxLength=1048576")
    assert not long.fits
    shorter = int(long.problems[-1].split("maxLength ")[1].split()[0])
    assert plan_of("H100", f"batching.maxLength={shorter}").fits


def test_weights_that_do_not_fit_say_how_many_gpus_would():
    poor = plan_of("L4", "batching.maxLength=2048", target="llama-3-8b", drafter="llama-3-8b")
    assert not poor.fits
    enough = int(poor.problems[-1].split("placement.gpus ")[1].split()[0])
    assert enough > 1
    assert plan_of(f"{enough}xL4", "batching.maxLength=2048", target="llama-3-8b", drafter="llama-3-8b").fits


def test_a_page_is_the_engines():
    assert PAGE == paging.PAGE


@given(length=st.integers(64, 30000), k=st.integers(0, 8))
def test_pages_hold_more_rows_than_slots_and_each_has_room_for_half(length, k):
    sizes = {"max_length": length, "max_k": k}
    rows = most_rows(SAME, GPUS, **sizes, cap=512)
    assert most_rows(SAME, GPUS, **sizes, cap=512, slots=True) <= rows
    tokens = kv_tokens(SAME, GPUS, rows=rows, **sizes)
    assert min(rows * (length + k + 1) / 2, length + k + 1) <= tokens <= rows * (length + k + 1 + PAGE)
    (use,) = device_uses(SAME, GPUS, rows=rows, **sizes)
    assert use.kv_bytes == tokens * sum(group.shape.kv_bytes_per_token for group in SAME[0].groups)


def test_rows_get_all_that_they_may_need_where_there_is_room():
    assert kv_tokens(SAME, GPUS, rows=16, max_length=1000, max_k=7) == 16 * 1024


@pytest.mark.parametrize(
    "change", [{"architecture": "gemma3"}, {"sliding_window": True}, {"output_bias": True}, {"num_experts": 8}]
)
def test_models_without_a_fast_path_have_slots(change):
    other = [Replica(Group(replace(shape("qwen3-8b"), **change), ("cuda:0",)), SAME[0].drafter)]
    assert kv_tokens(other, GPUS, rows=10, max_length=1000, max_k=7) == 10 * 1009
    rows = most_rows(other, GPUS, max_length=2048, max_k=8, cap=512)
    assert rows < most_rows(SAME, GPUS, max_length=2048, max_k=8, cap=512)


def test_a_cpu_has_slots():
    host = [Replica(Group(shape("qwen3-8b"), ("cpu",)), None)]
    assert kv_tokens(host, {"cpu": H100}, rows=10, max_length=1000, max_k=7) == 10 * 1009


def test_the_plan_says_that_rows_share_pages_and_how_many_the_general_engine_would_get():
    plan = plan_of("H100", "batching.maxLength=2048")
    assert 0 < plan.slot_sequences < plan.max_sequences
    assert any(f"{plan.max_sequences} rows share pages of KV" in note for note in plan.notes)
    few = plan_of("H100", "batching.maxLength=2048", "batching.maxSequences=8")
    assert few.slot_sequences == few.max_sequences == 8
    assert not any("share pages" in note for note in few.notes)
    assert not any("share pages" in note for note in plan_of("H100", "batching.maxSequences=400").notes)


def test_a_length_beyond_the_models_positions_is_a_problem():
    plan = plan_of("H100", "batching.maxLength=10000", target="llama-3-8b", drafter=None)
    assert "knows 8192 positions" in plan.problems[0]


@pytest.mark.parametrize(("count", "text"), [(3 << 30, "3.0 GiB"), (5 << 20, "5.0 MiB"), (-(2 << 30), "-2.0 GiB")])
def test_bytes_for_people(count, text):
    assert gib(count) == text
