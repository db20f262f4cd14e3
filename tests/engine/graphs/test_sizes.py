"""Which batches are recorded, which k they may have, and how many pages fit."""

from types import SimpleNamespace

import pytest
import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.graphs import sizes
from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.graphs.mode import MAX_CANDIDATES
from specbatch.engine.graphs.sizes import MAX_TOKENS
from specbatch.engine.speculation.depth import Speculation
from specbatch.plan import memory, plan_request, reserve, types


@pytest.mark.parametrize("slots", [1, 2, 3, 8, 24, 25, 200, 256, 257, 384, 385, 1000, 1024])
def test_every_batch_has_a_bucket_that_is_not_much_larger(slots):
    made = sizes.buckets(slots)
    assert made == sorted(set(made))
    assert made[-1] == slots
    for rows in range(1, slots + 1):
        size = sizes.bucket(made, rows)
        assert rows <= size <= min(slots, max(2 * rows - 1, rows + 128))


@pytest.mark.parametrize(
    ("rows", "max_k", "most"),
    [(1, 8, 8), (128, 8, 7), (MAX_TOKENS // 4, 8, 3), (MAX_TOKENS, 8, 0), (5000, 8, 0), (1, 0, 0)],
)
def test_a_chosen_k_keeps_the_verified_tokens_within_bounds(rows, max_k, most):
    assert sizes.most_drafts(rows, max_k) == most


GPU = torch.device("cuda", 0)
OTHER = torch.device("cuda", 1)
GIB = 2**30
RESERVE = 2 * GIB


def kept_free(_device):
    return RESERVE


def model(bytes_by_device):
    """As page_bytes sees it: a page of so many bytes on each device."""
    stages = [
        SimpleNamespace(device=device, layers=[None] * (size // 1024)) for device, size in bytes_by_device.items()
    ]
    return SimpleNamespace(stages=stages, page_shape=(1, 1024 // (2 * PAGE * 2)), kv_dtype=torch.float16)


def free(monkeypatch, **gib):
    memory = {f"cuda:{name[1:]}": size for name, size in gib.items()}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(memory[str(device)] * GIB), 80 * GIB))


def test_on_a_cpu_every_row_may_be_at_its_longest():
    assert sizes.page_counts(model({torch.device("cpu"): 4096}), None, 8, 3 * PAGE, kept_free) == (24, 0)
    small = model({torch.device("cpu"): 1024})
    assert sizes.page_counts(model({torch.device("cpu"): 4096}), small, 8, 3 * PAGE, kept_free) == (24, 24)


def test_where_memory_is_plenty_nobody_waits_for_pages(monkeypatch):
    free(monkeypatch, d0=40)
    assert sizes.page_counts(model({GPU: 2**20}), model({GPU: 2**18}), 64, 32 * PAGE, kept_free) == (2048, 2048)


def test_where_it_is_short_the_target_gets_more_pages_than_the_drafter(monkeypatch):
    free(monkeypatch, d0=6)
    target, drafter = model({GPU: 2**22}), model({GPU: 2**21})
    of_target, of_drafter = sizes.page_counts(target, drafter, 256, 32 * PAGE, kept_free)
    assert 32 <= of_drafter < of_target < 256 * 32
    assert of_target * 2**22 + of_drafter * 2**21 <= 6 * GIB - RESERVE
    alone, none = sizes.page_counts(target, None, 256, 32 * PAGE, kept_free)
    assert of_target < alone < 256 * 32
    assert none == 0


def test_the_fullest_device_decides(monkeypatch):
    free(monkeypatch, d0=40, d1=4)
    split = model({GPU: 2**22, OTHER: 2**22})
    on_full, _ = sizes.page_counts(split, None, 256, 32 * PAGE, kept_free)
    assert on_full == 2 * GIB // 2**22  # half of what is free, where that is little
    of_target, of_drafter = sizes.page_counts(model({GPU: 2**20}), model({OTHER: 2**22}), 256, 32 * PAGE, kept_free)
    assert of_drafter <= of_target
    assert of_drafter * 2**22 <= 2 * GIB


def test_a_drafter_on_a_gpu_of_its_own_has_what_that_holds_and_does_not_limit_the_target(monkeypatch):
    free(monkeypatch, d0=40, d1=10)
    target, drafter = model({GPU: 2**22}), model({OTHER: 2**21})
    of_target, of_drafter = sizes.page_counts(target, drafter, 256, 64 * PAGE, kept_free)
    assert of_target == sizes.page_counts(target, None, 256, 64 * PAGE, kept_free)[0] == 38 * GIB // 2**22
    assert of_drafter == 8 * GIB // 2**21 < of_target
    free(monkeypatch, d0=40, d1=0.1)
    with pytest.raises(torch.OutOfMemoryError, match="25 of the 64 KV pages"):
        sizes.page_counts(target, drafter, 256, 64 * PAGE, kept_free)


def test_where_not_even_one_row_fits_memory_has_run_out(monkeypatch):
    free(monkeypatch, d0=1.5)
    with pytest.raises(torch.OutOfMemoryError, match="of the 32 KV pages"):
        sizes.page_counts(model({GPU: 2**25}), None, 8, 32 * PAGE, kept_free)


def test_the_plan_counts_as_the_engine_does():
    """The plan must not import torch, so it repeats these."""
    assert memory.PAGE == PAGE
    assert EngineConfig(speculation=Speculation.fixed(0)).most_k == memory.MOST_FORCED
    assert EngineConfig().graphs_prefill_chunk == reserve.PREFILL_TOKENS
    assert types.VERIFIED_TOKENS == MAX_TOKENS
    assert types.Speculation(8, is_adaptive=True).choices_for(200) == list(range(sizes.most_drafts(200, 8) + 1))
    assert plan_request._MOST_CANDIDATES == MAX_CANDIDATES


def test_each_gpu_keeps_its_own_reserve_free(monkeypatch):
    free(monkeypatch, d0=40, d1=40)
    kept = {str(GPU): 2 * GIB, str(OTHER): 10 * GIB}
    target, drafter = model({GPU: 2**22}), model({OTHER: 2**22})
    of_target, of_drafter = sizes.page_counts(target, drafter, 256, 64 * PAGE, kept.__getitem__)
    assert (of_target, of_drafter) == (38 * GIB // 2**22, 30 * GIB // 2**22)


def windowed(layers=6, full=1):
    """A model of which all layers but the first ones have a window: a page of a layer takes 1 MiB."""
    kinds = [
        SimpleNamespace(what=SimpleNamespace(attention=SimpleNamespace(window=64 * (n >= full)))) for n in range(layers)
    ]
    stage = SimpleNamespace(device=GPU, layers=kinds)
    return SimpleNamespace(stages=[stage], page_shape=(1024, 1024 // (2 * PAGE * 2)), kv_dtype=torch.float16)


def test_layers_with_a_window_take_theirs_first_and_the_others_the_rest(monkeypatch):
    free(monkeypatch, d0=12 + 2)
    sized = windowed(), None, 64, 512 * PAGE, kept_free, 0, None
    reserved = RESERVE / 2**20
    assert sizes.page_counts(*sized, 0)[0] == int((14 * 1024 - reserved) / 6)
    assert sizes.page_counts(*sized, 1000)[0] == int(14 * 1024 - reserved - 5 * 1000)
    assert sizes.page_counts(windowed(full=0), *sized[1:], 1000)[0] == 64 * 512  # nothing but windows
    with pytest.raises(torch.OutOfMemoryError, match="a window, for 64 rows"):
        sizes.page_counts(*sized, 3000)


@pytest.mark.parametrize(("sliding", "apart"), [(0, False), (1000, True), (2000, True), (2100, False), (9000, False)])
def test_layers_with_a_window_are_apart_where_the_others_have_no_fewer_pages_by_that(monkeypatch, sliding, apart):
    free(monkeypatch, d0=12 + 2)
    sized = windowed(), None, 64, 512 * PAGE, kept_free, 0, None
    found, [(pages, _)] = sizes.with_windows(lambda sliding: [sizes.page_counts(*sized, sliding)], sliding)
    assert found == sliding * apart
    assert pages >= sizes.page_counts(*sized, 0)[0]


def test_where_of_whole_rows_not_one_fits_windows_may(monkeypatch):
    free(monkeypatch, d0=3)
    sized = windowed(), None, 2, 1024 * PAGE, kept_free, 0, None
    with pytest.raises(torch.OutOfMemoryError, match="of one row fit"):
        sizes.page_counts(*sized, 0)
    assert sizes.with_windows(lambda sliding: [sizes.page_counts(*sized, sliding)], 64) == (64, [(1216, 0)])
