"""Memory that runs out, rows of NaN, a GPU that fails: what the engine makes of them."""

import gc
import weakref

import pytest
import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.model import CausalLM
from specbatch.engine.make_engine import general_engine
from specbatch.engine.memory import is_out_of_memory, loaded_set_aside, loading_onto, release
from specbatch.engine.request import Request
from specbatch.engine.speculation.depth import Speculation
from specbatch.errors import DeviceError, OutOfMemoryError
from tests.engine import tiny


def requests(pair, new_tokens=tiny.NEW):
    return [Request(str(i), prompt, new_tokens) for i, prompt in enumerate(pair.prompts)]


def out_of_memory(rows):
    return torch.OutOfMemoryError(f"CUDA out of memory: {rows} rows")


def fail_above(model, monkeypatch, most_rows, method, error=out_of_memory):
    """The model's forward (or fill) runs out of memory when given more rows than that."""
    real = getattr(model, method)

    def limited(token_ids, view, **kwargs):
        if token_ids.shape[0] > most_rows:
            raise error(token_ids.shape[0])
        return real(token_ids, view, **kwargs)

    monkeypatch.setattr(model, method, limited)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forward", pytest.param("fill", marks=pytest.mark.slow)])
@pytest.mark.parametrize("victim", ["target", pytest.param("drafter", marks=pytest.mark.slow)])
def test_out_of_memory_halves_the_batch_and_changes_no_token(pair, monkeypatch, method, victim):
    model = pair.target if victim == "target" else pair.noisy.model
    fail_above(model, monkeypatch, 3, method)
    monkeypatch.setattr(pair.noisy, "prefill_chunk", 4096)
    # Prompts of one length, so that prefill has groups as large as the batch.
    rows = [Request(str(i), pair.prompts[5], 20) for i in range(20)]
    out, engine = tiny.decode(
        pair.target, pair.noisy, rows, max_sequences=16, num_speculative_tokens=3, prefill_chunk=4096
    )
    assert tiny.tokens(out, 20) == [pair.expected[5][:20]] * 20
    assert 2 <= engine.stats.max_sequences < 16
    assert engine.stats.finished == 20


@pytest.mark.slow
def test_running_out_in_the_middle_of_rows_keeps_what_they_have(pair, monkeypatch):
    """Memory that runs out later, as contexts grow: the rows go on from their own tokens."""
    calls = []

    def sometimes(rows):
        return out_of_memory(rows)

    real = pair.target.forward

    def forward(token_ids, view, **kwargs):
        calls.append(token_ids.shape[0])
        if len(calls) in {5, 11}:
            raise sometimes(token_ids.shape[0])
        return real(token_ids, view, **kwargs)

    monkeypatch.setattr(pair.target, "forward", forward)
    out, engine = tiny.decode(pair.target, pair.twin, requests(pair), max_sequences=16, num_speculative_tokens=3)
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected
    assert engine.stats.max_sequences == 4
    assert engine.stats.acceptance_rate == 1.0


@pytest.mark.slow
def test_out_of_memory_while_costs_are_measured_halves_the_batch_too(pair, monkeypatch):
    fail_above(pair.target, monkeypatch, 4, "forward")
    out, engine = tiny.decode(pair.target, pair.noisy, requests(pair), max_sequences=16)
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected
    assert engine.stats.max_sequences == 4


@pytest.mark.slow
def test_one_row_that_does_not_fit_is_an_error_with_a_remedy(pair, monkeypatch):
    fail_above(pair.target, monkeypatch, 0, "forward")
    with pytest.raises(OutOfMemoryError, match="maxLength") as caught:
        tiny.decode(pair.target, None, requests(pair))
    assert caught.value.exit_code == 70


def test_the_cpu_allocator_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("size mismatch"))


def test_an_error_of_another_kind_is_not_swallowed(pair, monkeypatch):
    fail_above(pair.target, monkeypatch, 0, "forward", error=lambda rows: RuntimeError("size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        tiny.decode(pair.target, None, requests(pair))


def test_a_gpu_that_fails_ends_with_its_own_exit_code(pair, monkeypatch):
    fail_above(pair.target, monkeypatch, 0, "forward", error=lambda rows: torch.AcceleratorError("CUDA error: Xid"))
    with pytest.raises(DeviceError, match="Xid") as caught:
        tiny.decode(pair.target, None, requests(pair))
    assert caught.value.exit_code == 69


MANY = 10_000  # objects: torch and transformers have ten times as many, what never dies is hundreds


class Cycle:
    """What only the collector takes away."""

    def __init__(self):
        self.itself = self


@pytest.mark.usefixtures("setting_aside")
def test_the_collector_looks_at_nothing_that_was_there_before_while_it_is_set_aside():
    with loaded_set_aside():
        assert gc.get_freeze_count() > MANY
        assert len(gc.get_objects()) < MANY
        new = weakref.ref(Cycle())
        gc.collect()
        assert new() is None
    assert gc.get_freeze_count() < MANY


@pytest.mark.slow
@pytest.mark.usefixtures("setting_aside")
def test_memory_that_is_needed_is_found_among_what_was_set_aside():
    gc.disable()
    try:
        with loaded_set_aside():
            engine = Cycle()
            gc.freeze()
            gone = weakref.ref(engine)
            del engine
            gc.collect()
            assert gone() is not None
            release(torch.device("cpu"))
            assert gone() is None
            assert gc.get_freeze_count() > MANY
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.usefixtures("setting_aside")
def test_nothing_is_set_aside_by_what_gives_memory_back():
    gc.freeze()  # Python itself does so with what never dies
    release(torch.device("cpu"))
    assert gc.get_freeze_count() < MANY


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_a_row_of_nan_ends_as_an_error_and_poisons_no_other(pair, monkeypatch, batch):
    """Its KV is NaN, too: whoever takes the slot next must not read it."""
    real = pair.target.forward
    bad = "4"
    engine = general_engine(pair.target, pair.noisy, EngineConfig(batch, 128, Speculation.fixed(3), prefill_chunk=32))

    def forward(token_ids, view, **kwargs):
        logits = real(token_ids, view, **kwargs).clone()
        for slot, row in enumerate(engine.runner.batch.rows):
            if row.request.id == bad and len(row.token_ids) > 3:
                logits[slot] = torch.nan
                for layer in pair.target.cache.layers:
                    layer.keys[slot] = layer.values[slot] = torch.nan
        return logits

    monkeypatch.setattr(pair.target, "forward", torch.inference_mode()(forward))
    out = {c.request.id: c for c in engine.generate(requests(pair))}
    assert out[bad].finish_reason == "error"
    assert "not finite" in out[bad].error
    assert engine.stats.failed == 1
    assert all(list(out[str(i)].token_ids) == pair.expected[i] for i in range(len(pair.prompts)) if str(i) != bad)


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), OutOfMemoryError, "m does not fit on cuda:1.*nvidia-smi"),
        (torch.AcceleratorError("CUDA error: out of memory\nSearch"), OutOfMemoryError, "does not fit on cuda:1"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), OutOfMemoryError, "does not fit on"),
        (torch.AcceleratorError("CUDA error: Xid"), DeviceError, "the device failed"),
        (RuntimeError("size mismatch"), RuntimeError, "size mismatch"),
    ],
)
def test_a_gpu_that_others_fill_is_told_from_a_broken_one_while_a_model_loads(error, kind, told):
    with pytest.raises(kind, match=f"(?s){told}"), loading_onto(["cuda:1"], "m"):
        raise error


@pytest.mark.parametrize("sign", ["CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory"])
def test_no_memory_for_the_check_of_a_model_is_not_a_model_that_is_unsupported(pair, monkeypatch, sign):
    def full(*_):
        raise RuntimeError(sign)

    monkeypatch.setattr(CausalLM, "_slot_logits", full)
    with pytest.raises(RuntimeError, match=sign):
        CausalLM(pair.target.model, "m")
