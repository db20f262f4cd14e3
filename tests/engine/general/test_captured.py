"""Forwards that are recorded and replayed: the same logits and tokens, few shapes, and none where recording fails. A stand-in runs steps again."""

import gc

import pytest
import torch

from specbatch.engine.general import runner as runners
from specbatch.engine.general.cache import SlotView
from specbatch.engine.general.captured import CapturedForwards, Shape, recorder
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.make_engine import describe
from specbatch.engine.request import Request
from tests.engine import architectures, tiny


def again(step):
    """Records nothing: a replay runs the step over what its buffers hold by then."""
    return step


def failing(step):
    raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


@pytest.fixture
def recording(monkeypatch):
    """Makes runners of the CPU record with the stand-in that is set."""
    capture = CausalLM.capture_forwards
    chosen = {"record": again}
    monkeypatch.setattr(CausalLM, "capture_forwards", lambda model, **_: capture(model, chosen["record"]))
    return chosen


def requests(count=9):
    return [Request(str(n), prompt, 20) for n, prompt in enumerate(tiny.prompts(count))]


@pytest.mark.slow
@pytest.mark.parametrize("drafts", [False, True])
def test_rows_get_the_tokens_that_they_get_without(recording, drafts):
    model = tiny.qwen3()
    drafter = (lambda: ModelDrafter(CausalLM(tiny.noisy(tiny.qwen3())))) if drafts else (lambda: None)
    sizes = {"max_sequences": 4, "num_speculative_tokens": 3 if drafts else 0}
    got, engine = tiny.decode(CausalLM(model), drafter(), requests(), **sizes)
    recording["record"] = failing
    plain, other = tiny.decode(CausalLM(tiny.qwen3()), drafter(), requests(), **sizes)
    assert {key: row.token_ids for key, row in got.items()} == {key: row.token_ids for key, row in plain.items()}
    assert len(engine.target.captured) > 1
    assert len(other.target.captured) == 0


def test_gpt2_goes_through_it_too(recording):
    model = architectures.build("gpt2")
    rows = [Request("a", [3, 1, 4], 12), Request("b", [1, 5], 7)]
    got, engine = tiny.decode(CausalLM(model), None, rows, max_sequences=2, num_speculative_tokens=0)
    assert len(engine.target.captured) > 1
    expected = tiny.greedy_reference(architectures.build("gpt2"), [[3, 1, 4]], 12)
    assert list(got["a"].token_ids) == expected[0]


def test_a_forward_that_cannot_be_recorded_runs_as_it_is_and_says_so(recording):
    recording["record"] = failing
    got, engine = tiny.decode(CausalLM(tiny.qwen3()), None, requests(3), max_sequences=2, num_speculative_tokens=0)
    assert len(got) == 3
    said = "its forward cannot be captured as a CUDA graph (RuntimeError: operation not permitted when stream is capturing)"
    assert engine.runner.captures == said
    assert said in describe(engine)


def test_a_replay_that_does_not_read_its_inputs_is_not_used(recording):
    def stale(step):
        step()
        return lambda: None

    recording["record"] = stale
    done, engine = tiny.decode(CausalLM(tiny.qwen3()), None, requests(3), max_sequences=2, num_speculative_tokens=0)
    assert len(done) == 3
    assert engine.runner.captures.endswith("(RuntimeError: a replay gives other logits)")


def test_a_recording_that_works_is_told(recording):
    _, engine = tiny.decode(CausalLM(tiny.qwen3()), None, requests(2), max_sequences=2, num_speculative_tokens=0)
    assert describe(engine) == "general; whole forwards as CUDA graphs"


def test_without_a_gpu_nothing_is_recorded_and_nothing_said():
    _, engine = tiny.decode(CausalLM(tiny.qwen3()), None, requests(2), max_sequences=2, num_speculative_tokens=0)
    assert engine.target.captured is None
    assert describe(engine) == "general"
    assert isinstance(engine.runner, runners.GeneralModelRunner)


def test_shapes_are_few_and_never_smaller_than_what_is_asked():
    forwards = CapturedForwards(lambda *_: torch.zeros(0), 200, 5000, torch.device("cpu"), again)
    rows, extents = {forwards._rows(n) for n in range(1, 201)}, {forwards._extent(n) for n in range(1, 5001)}
    assert all(n <= forwards._rows(n) <= max(2 * n, 1) or n > 96 for n in range(1, 201))
    assert all(n <= forwards._extent(n) <= max(64, 1.5 * n) + 1 for n in range(1, 5001))
    assert max(rows) == 200
    assert max(extents) == 5000
    assert len(rows) <= 14
    assert len(extents) <= 15


def test_a_shape_is_recorded_when_it_comes_again_and_its_buffers_are_padded():
    seen = []

    def forward(token_ids, view, last_only):
        seen.append((token_ids.clone(), view.positions.clone(), view.extent, last_only))
        return token_ids[..., None].float()

    forwards = CapturedForwards(forward, 8, 100, torch.device("cpu"), again)
    for number in range(3):
        ids = torch.full((3, 2), number)
        logits = forwards.run(ids, SlotView(slice(0, 3), ids, 10), last_only=False)
        assert torch.equal(logits, ids[..., None].float())
    assert list(forwards._recorded) == [Shape(4, 2, 64, last_only=False)]
    assert seen[-1][1].tolist() == [[2, 2]] * 3 + [[-1, -1]]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["gpt2", "opt", "phi"])
def test_on_a_gpu_graphs_give_the_tokens_of_forwards_as_they_are(kind, monkeypatch):
    def run():
        model = CausalLM(architectures.build(kind).cuda())
        rows = [Request(str(n), [token % 64 for token in prompt], 20) for n, prompt in enumerate(tiny.prompts(9))]
        done, engine = tiny.decode(model, None, rows, max_sequences=4, num_speculative_tokens=0)
        return {key: row.token_ids for key, row in done.items()}, engine

    got, engine = run()
    assert engine.target.captured.why_not is None
    assert len(engine.target.captured) > 1
    monkeypatch.setattr(CausalLM, "capture_forwards", lambda model, **_: None)
    assert run()[0] == got


@pytest.mark.gpu
def test_a_gpu_without_memory_for_a_capture_raises_and_the_process_lives_on():
    device, made = torch.device("cuda", 0), []
    record = recorder(device)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved(device) / torch.cuda.mem_get_info(device)[1])
    try:
        with pytest.raises(torch.OutOfMemoryError):
            record(lambda: made.append(0))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()  # the graph that was not captured
    place = torch.zeros(1, device=device)
    record(lambda: place.add_(1))()
    assert place.item() == 1
    assert not made
