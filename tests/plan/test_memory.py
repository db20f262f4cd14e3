from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.engine.graphs.kv import paging
from specbatch.plan.device_map import place_replicas, split_layers
from specbatch.plan.gpus import parse_gpus
from specbatch.plan.layouts import Layout
from specbatch.plan.memory import PAGE, gib, largest, memory_fit
from specbatch.plan.shapes.known_models import known_models
from specbatch.plan.shapes.read_shape import shape_from_config
from tests.plan.builders import H100, plan_of, replica, request, shape

TARGET, DRAFTER = shape("qwen3-8b"), shape("qwen3-1.7b")


def same(length, k, target=TARGET):
    """Both models on one of the GPUs."""
    return memory_fit(
        request(target, DRAFTER, max_length=length, k=k), [replica(target, "cuda:0", drafter=DRAFTER, on="cuda:0")]
    )


def split(length, k):
    """The target alone, over two GPUs."""
    return memory_fit(request(TARGET, max_length=length, k=k), [replica(TARGET, "cuda:0", "cuda:1")])


def used(memory, rows):
    return [use.memory_bytes - use.free_bytes for use in memory.device_uses(rows)]


def test_one_gpu_holds_both_models_and_both_caches():
    (use,) = same(1000, 7).device_uses(10)
    assert use.weight_bytes == TARGET.weight_bytes + DRAFTER.weight_bytes
    kv = TARGET.kv_bytes_per_token + DRAFTER.kv_bytes_per_token
    assert use.kv_bytes == 10 * 1024 * kv  # 1008 positions are 16 pages


def test_a_split_stores_every_byte_once():
    uses = split(1000, 0).device_uses(10)
    assert sum(use.weight_bytes for use in uses) == TARGET.weight_bytes
    assert sum(use.kv_bytes for use in uses) == 10 * 1024 * TARGET.kv_bytes_per_token


def test_devices_that_are_not_used_are_not_listed():
    assert [use.device for use in same(8, 0).device_uses(1)] == ["cuda:0"]


GEMMA = shape_from_config(
    known_models()["google/gemma-3-12b-it"]["text_config"], "gemma-3-12b"
)  # 40 of 48 layers look back 1,024 tokens


def gemma(length, *devices, k=0):
    return memory_fit(request(GEMMA, max_length=length, k=k), [replica(GEMMA, *(devices or ("cuda:0",)))])


def test_layers_with_a_window_hold_no_more_than_it_of_a_row():
    memory, rows = gemma(32768), 20
    sliding, whole = int(GEMMA.sliding_kv() * GEMMA.kv_number_bytes), GEMMA.kv_bytes_per_token
    assert (sliding, whole) == (40 * 8192, 48 * 8192)
    assert memory.sliding_tokens(rows) == PAGE * (
        rows * 18 + 64
    )  # the window, a page, and where pages begin; a prefill forward
    (use,) = memory.device_uses(rows)
    assert use.kv_bytes == (whole - sliding) * memory.kv_tokens(rows) + sliding * memory.sliding_tokens(rows)
    assert memory.most_rows(4096) > 3 * replace(memory, target_window=0).most_rows(4096)


def test_short_rows_of_such_a_model_count_as_ever():
    memory = gemma(1024)
    assert memory.sliding_tokens(64) == 0
    assert memory.most_rows(4096) == replace(memory, target_window=0).most_rows(4096)


def test_what_stages_hold_is_what_their_devices_do():
    memory, rows = gemma(32768, "cuda:0", "cuda:1"), 40
    placed = place_replicas(
        Layout("multi_gpu_ratio", ((("cuda:0", "cuda:1"), ()),)),
        GEMMA,
        None,
        memory.kv_tokens(rows),
        sliding_tokens=memory.sliding_tokens(rows),
    )
    held = [stage.kv_bytes for stage in placed[0].target.stages]
    assert held == [use.kv_bytes for use in memory.device_uses(rows)]


@given(length=st.integers(1, 40000), k=st.integers(0, 16), rows=st.integers(1, 200))
def test_more_rows_with_windows_never_take_fewer_bytes(length, k, rows):
    memory = gemma(length, k=k)
    assert memory.fits(rows) or not memory.fits(rows + 1)


A_PAGE = 64 * 2**18  # 64 positions of both models: 144 + 112 KiB each


@pytest.mark.slow
@given(
    rows=st.integers(1, 300), length=st.integers(2, 8000), k=st.integers(0, 16), placed=st.sampled_from([same, split])
)
def test_memory_grows_with_rows_length_and_k(rows, length, k, placed):
    base = used(placed(length, k), rows)
    for more in (
        used(placed(length, k), rows + 1),
        used(placed(length + 1, k), rows),
        used(placed(length, k + 1), rows),
    ):
        # Where KV takes all that is left, it takes it by whole pages: of one page less may be used.
        assert all(after > before - A_PAGE for before, after in zip(base, more, strict=True))


@pytest.mark.slow
@given(length=st.integers(16, 30000), k=st.integers(0, 8))
def test_auto_takes_rows_that_fit_and_hardly_more_would(length, k):
    memory = same(length, k)
    rows = memory.most_rows(512)
    assert 0 < rows <= 512
    assert used(memory, rows)[0] <= H100.memory_bytes
    if rows < 512:
        assert used(memory, rows + (8 if rows >= 16 else 1))[0] > H100.memory_bytes


def test_the_longest_length_fits_and_one_more_does_not():
    length = largest(lambda length: same(length, 8).fits(64), 100_000)
    assert used(same(length, 8), 64)[0] <= H100.memory_bytes < used(same(length + 1, 8), 64)[0]


def test_auto_rows_are_capped_where_more_would_only_wait():
    assert plan_of("H100", "batching.maxLength=300", target="qwen3-0.6b", drafter=None).max_sequences == 512


def test_one_row_too_many_is_reported_with_the_number_that_fits():
    fits = plan_of("H100").max_sequences
    tight = plan_of("H100", "batching.maxSequences=400")
    assert not tight.fits
    assert tight.devices[0].free_bytes < 0
    assert "lacks" in tight.problems[0]
    found = int(tight.problems[-1].split("maxSequences=")[1].split()[0])
    assert found == pytest.approx(fits, abs=8)
    assert plan_of("H100", f"batching.maxSequences={found}").fits


def test_a_row_too_long_is_reported_with_the_length_that_fits():
    long = plan_of("H100", "batching.maxLength=1048576")
    assert not long.fits
    shorter = int(long.problems[-1].split("maxLength=")[1].split()[0])
    assert plan_of("H100", f"batching.maxLength={shorter}").fits


def test_weights_that_do_not_fit_say_how_many_gpus_would():
    poor = plan_of("L4", "batching.maxLength=2048", target="llama-3-8b", drafter="llama-3-8b")
    assert not poor.fits
    enough = int(poor.problems[-1].split("placement.gpus=")[1].split()[0])
    assert enough > 1
    assert plan_of(f"{enough}xL4", "batching.maxLength=2048", target="llama-3-8b", drafter="llama-3-8b").fits


def test_a_page_is_the_engines():
    assert PAGE == paging.PAGE


@pytest.mark.slow
@given(length=st.integers(64, 30000), k=st.integers(0, 8))
def test_pages_hold_more_rows_than_slots_and_each_has_room_for_half(length, k):
    memory = same(length, k)
    rows = memory.most_rows(512)
    assert memory.most_rows(512, slots=True) <= rows
    tokens = memory.kv_tokens(rows)
    assert min(rows * (length + k + 1) / 2, length + k + 1) <= tokens <= rows * (length + k + 1 + PAGE)
    (use,) = memory.device_uses(rows)
    assert use.kv_bytes == tokens * (TARGET.kv_bytes_per_token + DRAFTER.kv_bytes_per_token)


def test_rows_get_all_that_they_may_need_where_there_is_room():
    assert same(1000, 7).kv_tokens(16) == 16 * 1024


@pytest.mark.parametrize(
    "change",
    [{"architecture": "cohere2"}, {"architecture": "exaone4", "sliding_window": True}, {"architecture": "granitemoe"}],
)
def test_models_without_a_fast_path_have_slots(change):
    other = replace(TARGET, **change)
    assert same(1000, 7, other).kv_tokens(10) == 10 * 1009
    assert same(2048, 8, other).most_rows(512) < same(2048, 8).most_rows(512)


def test_a_cpu_has_slots():
    host = memory_fit(request(TARGET, gpus={"cpu": H100}, max_length=1000, k=7), [replica(TARGET, "cpu")])
    assert host.kv_tokens(10) == 10 * 1009


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


TWO_TO_ONE = ("placement.strategy=multi_gpu_ratio", "placement.ratio={target: 2, drafter: 1}", "placement.replicas=1")
SPLIT_OVER_4 = ("placement.replicas=1", "batching.maxLength=2048")
FOUR_TO_ONE = ("placement.strategy=multi_gpu_ratio", "placement.ratio={target: 4, drafter: 1}", "placement.replicas=1")


def test_a_drafter_on_a_gpu_of_its_own_takes_none_of_the_targets_kv():
    pair = plan_of("5xH100", *FOUR_TO_ONE, "batching.maxLength=2048", "batching.maxSequences=512")
    assert pair.max_sequences == 512
    assert pair.replicas[0].target.kv_bytes >= 512 * 2049 * TARGET.kv_bytes_per_token  # every row at its longest
    held = pair.replicas[0].drafter.kv_bytes // DRAFTER.kv_bytes_per_token
    assert 512 * 1024 <= held < 512 * 2049
    assert any(f"the drafter's GPUs hold KV for {held:,} tokens" in note for note in pair.notes)


def test_a_drafters_gpu_limits_the_rows_only_where_fewer_rows_with_drafts_are_faster():
    limited = plan_of("3xH100", *TWO_TO_ONE, "batching.maxLength=4096")
    assert limited.ceiling.num_speculative_tokens > 0
    *of_target, of_drafter = limited.devices
    assert limited.max_sequences == of_drafter.rows < min(use.rows for use in of_target)
    assert "limited by the memory of cuda:2" in limited.rows_limit
    free = plan_of("5xH100", *FOUR_TO_ONE, "batching.maxLength=8192")
    alone = plan_of("4xH100", "placement.replicas=1", "batching.maxLength=8192", drafter=None)
    assert (free.max_sequences, free.ceiling.num_speculative_tokens) == (alone.max_sequences, 0)
    assert free.fits
    assert f"cuda:4 can draft for {free.devices[-1].rows} of them" in free.rows_limit


def test_a_target_in_stages_has_rows_for_groups_of_them():
    """What a GPU cannot use at once, several do: each has a group of the rows."""
    whole, split = plan_of("H200", target="qwen3-0.6b", drafter=None), plan_of("4xH100", *SPLIT_OVER_4, drafter=None)
    assert whole.max_sequences == 512
    assert split.max_sequences == 1024
    assert plan_of("4xH100", *SPLIT_OVER_4, "batching.maxSequences=512", drafter=None).max_sequences == 512


def test_each_device_says_how_many_rows_it_has_room_for():
    plan = plan_of("3xH100", *TWO_TO_ONE, "batching.maxLength=8192")
    assert all(use.rows >= plan.max_sequences for use in plan.devices)
    more = min(use.rows for use in plan.devices) + 8
    assert not plan_of("3xH100", *TWO_TO_ONE, "batching.maxLength=8192", f"batching.maxSequences={more + 400}").fits


@pytest.mark.parametrize("gpus", ["2xL4", "4xL4", "3xL4"])
def test_where_memory_limits_the_rows_layers_move_to_the_gpu_with_room(gpus):
    """The first GPU holds the embedding, which no step reads: by reading alone it would have the most layers, and the fewest rows."""
    plan = plan_of(gpus, "placement.replicas=1", "batching.maxLength=2048", drafter=None)
    counts = tuple(stage.num_layers for stage in plan.replicas[0].target.stages)
    by_reading = split_layers(TARGET, len(counts))
    assert sum(counts) == 36
    assert counts[0] < by_reading[0]
    held = replace(
        request(TARGET, gpus={use.device: parse_gpus("L4")[0] for use in plan.devices}, max_length=2048), max_rows=512
    )
    even = memory_fit(held, place_replicas(Layout("multi_gpu_ratio", (((*held.gpus,), ()),), by_reading), TARGET, None))
    assert plan.max_sequences > even.most_rows(1024)


def test_rows_that_the_spec_names_leave_the_split_as_it_reads():
    plan = plan_of("2xL4", "placement.replicas=1", "batching.maxLength=2048", "batching.maxSequences=64", drafter=None)
    assert tuple(stage.num_layers for stage in plan.replicas[0].target.stages) == split_layers(TARGET, 2)


def test_a_drafter_with_a_window_has_kv_for_its_room_and_the_target_gets_the_rest():
    fits = []
    for window in (None, 64):
        small = replace(shape("qwen3-0.6b"), window=window)
        placed = [replica(TARGET, "cuda:0", drafter=small, on="cuda:0")]
        fits.append(memory_fit(request(TARGET, small, max_length=4096), placed))
    whole, windowed = (fit.drafter_kv_tokens(8) for fit in fits)
    assert windowed == 8 * 192 < whole
    assert fits[1].most_rows(10**6) > fits[0].most_rows(10**6)
