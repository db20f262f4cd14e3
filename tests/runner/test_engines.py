"""Which engine a run gets, and runs by the fast path: its PyTorch operations stand in for the kernels on the CPU."""

import weakref
from types import SimpleNamespace

import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM

from specbatch.engine import make_engine as module
from specbatch.engine import triton_support
from specbatch.engine.config import EngineConfig
from specbatch.engine.general.cache import SlotView
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.general.runner import GeneralModelRunner
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.make_engine import describe, general_engine, graphs_engine, make_engine, why_general
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.speculation.depth import Speculation
from specbatch.plan.engine_choice import EngineChoice
from specbatch.plan.shapes.read_shape import shape_from_config
from specbatch.results.manifest import read_manifests
from specbatch.runner import engine_set
from specbatch.runner.display import seldom
from specbatch.runner.job import run_job
from specbatch.runner.verify import scores
from specbatch.runner.verify.verify import verify_run
from tests.plan.builders import config as architecture
from tests.runner.tiny import read_lines

ROWS = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(7)]
SAMPLED = {"id": "sampled", "prompt": "hello 3", "temperature": 1.3, "top_k": 20, "top_p": 0.9, "seed": 8}


@pytest.fixture
def fast(monkeypatch):
    """The fast path on the CPU too."""
    monkeypatch.setattr(module, "why_general", lambda target, drafter: None)


@pytest.fixture
def said(monkeypatch):
    """The steps that a run tells of."""
    steps = []
    monkeypatch.setattr("specbatch.runner.display.Display.step", lambda self, message: steps.append(message))
    return steps


@pytest.fixture
def loaded(monkeypatch):
    """The engines of a run or a verification, as long as they are alive."""
    engines = weakref.WeakSet()
    load = engine_set.load_engines

    def remember(*arguments):
        made = load(*arguments)
        engines.update(made)
        return made

    monkeypatch.setattr(engine_set, "load_engines", remember)
    return engines


def load(pair, dtype="float32"):
    models = [load_causal_lm(str(folder), device_map={"": "cpu"}, dtype=dtype) for folder in pair]
    return models[0], ModelDrafter(models[1])


def logits(target):
    ids, positions = torch.arange(3, 12)[None], torch.arange(9)[None]
    target.allocate(1, 16)
    return target.forward(ids, SlotView(slice(0, 1), positions, 16))


def test_on_the_cpu_the_general_engine_decodes(pair):
    engine = make_engine(*load(pair), EngineConfig(2, 64, Speculation.fixed(2)))
    assert isinstance(engine.runner, GeneralModelRunner)
    assert describe(engine) == "general"


def test_what_keeps_a_pair_off_the_fast_path_is_said(pair, monkeypatch):
    target, drafter = load(pair)
    engine = general_engine(target, drafter, EngineConfig(2, 64, Speculation.fixed(2)))
    assert why_general(target, drafter) == "the target is not on GPUs"
    monkeypatch.setattr(module, "why_general", lambda target, drafter: "the target has no fast path: its x is y")
    monkeypatch.setattr(target, "input_device", torch.device("cuda"))
    assert describe(engine) == "general, since the target has no fast path: its x is y"


def test_other_architectures_and_drafters_have_no_fast_path(pair, monkeypatch):
    sizes = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
    }
    cohere = CausalLM(CohereForCausalLM(CohereConfig(vocab_size=20, num_hidden_layers=1, **sizes)))
    target, drafter = load(pair)

    class OnGpu:
        device, dtype = torch.device("cuda"), torch.float32
        is_floating_point = staticmethod(lambda: True)

    for model in (cohere, target, drafter.model):
        monkeypatch.setattr(model.model, "parameters", lambda: iter([OnGpu]))
    monkeypatch.setattr(module, "why_no_kernels", lambda device: None)
    assert (
        why_general(cohere, None) == "the target has no fast path: layer 0 has norms of other names (input_layernorm)"
    )
    assert (
        why_general(target, ModelDrafter(cohere))
        == "the drafter has no fast path: layer 0 has norms of other names (input_layernorm)"
    )
    assert why_general(target, object()) == "the drafter is a object"
    assert why_general(target, drafter) is None
    assert why_general(target, NGramDrafter(3, 1)) is None
    monkeypatch.setattr(module, "why_no_kernels", lambda device: "Triton is not installed")
    assert why_general(target, None) == "Triton is not installed"


@pytest.mark.slow
def test_kernels_that_do_not_run_on_the_gpu_give_way_to_the_general_engine(make_job, tmp_path, monkeypatch, said):
    """Triton's errors come when a kernel is first compiled and started: in the warm-up."""

    class TritonError(Exception):
        pass

    def fail(pair, say):
        raise TritonError("out of resource: shared memory\nRequired: 98304")

    monkeypatch.setattr(triton_support, "_refused", {})
    monkeypatch.setattr(module, "why_general", lambda target, drafter: triton_support._refused.get(target.input_device))
    monkeypatch.setattr("specbatch.engine.graphs.runner.warm_up", fail)
    run_job(make_job(ROWS))
    reason = "a kernel does not run on this GPU (out of resource: shared memory)"
    assert triton_support._refused == {torch.device("cpu"): reason}
    assert [step for step in said if step.startswith("engine: ")] == ["engine: recorded rounds", "engine: general"]
    assert len(read_lines(tmp_path / "results" / "tiny")) == len(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("drafter", [(), ("drafter.method=ngram", "drafter.model=null"), ("drafter=null",)])
def test_a_run_by_the_fast_path_has_the_same_rows_and_is_verified(make_job, tmp_path, fast, said, loaded, drafter):
    k = "auto" if drafter == ("drafter=null",) else 2
    job = make_job(
        [*ROWS, SAMPLED], *drafter, f"decoding.numSpeculativeTokens={k}", "decoding.temperature=0.7", "decoding.topK=5"
    )
    run_job(job)
    results = tmp_path / "results" / "tiny"
    (manifest,) = read_manifests(results)
    assert "engine: recorded rounds" in said
    assert manifest.summary.engine == "recorded rounds"
    assert all(set(where.values()) == {"cpu"} for where in manifest.placement.values())
    assert "model.layers.0.self_attn.k_proj.weight" in manifest.placement["target"]
    found = verify_run(results, 50)
    assert (found.exact, found.unexplained) == (len(ROWS) + 1, 0)


@pytest.mark.slow
def test_the_two_engines_give_the_same_text(make_job, tmp_path, monkeypatch):
    texts = []
    for number, reason in enumerate(("on the CPU", None)):
        monkeypatch.setattr(module, "why_general", lambda target, drafter, reason=reason: reason)
        run_job(make_job([*ROWS, SAMPLED], f"results.dir={tmp_path}/{number}"))
        texts.append({row["id"]: row["text"] for row in read_lines(tmp_path / str(number) / "tiny")})
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_the_engine_is_made_ready_for_what_the_spec_samples_by(make_job, fast, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "specbatch.runner.models.load.make_engine",
        lambda t, d, config: seen.append(config) or general_engine(t, d, config),
    )
    run_job(make_job(ROWS[:1], "decoding.temperature=0.7", "decoding.topK=5", "decoding.topP=0.9"))
    assert seen[0].sampling == SamplingParams(0.7, 5, 0.9)


@pytest.mark.slow
@pytest.mark.usefixtures("setting_aside")
def test_what_the_engine_held_is_free_before_scores_are_looked_at(make_job, tmp_path, fast, loaded, monkeypatch):
    run_job(make_job(ROWS))
    results = tmp_path / "results" / "tiny"
    part = results / "part-00000-of-00001.jsonl"
    part.write_text(part.read_text().replace('"text": "', '"text": "~', 1))
    alive = []

    class Scores(scores.TargetScores):
        def __init__(self, target, longest):
            alive.extend(loaded)
            super().__init__(target, longest)

    monkeypatch.setattr(scores, "TargetScores", Scores)
    found = verify_run(results, 50)
    assert (found.unexplained, found.exact, found.scores) == (1, len(ROWS) - 1, "float32")
    assert not alive


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_packed_target_computes_as_before_and_can_be_made_float32(pair, dtype):
    target, drafter = load(pair, dtype)
    before, placement = logits(target), target.placement()
    engine = graphs_engine(target, drafter, EngineConfig(2, 64, Speculation.fixed(2)))
    assert target.placement() == placement
    list(engine.generate([Request("row", [3, 4, 5], 6)]))
    assert torch.equal(logits(target), before)
    del engine, drafter
    target.model.float()
    plain, _ = load(pair, dtype)
    plain.model.float()
    assert torch.equal(logits(target), logits(plain))


def test_what_changes_often_is_said_seldom():
    said, clock = [], iter([0.0, 0.0, 1.0, 4.9, 5.0, 5.0, 6.0])
    say = seldom(said.append, seconds=5.0, clock=lambda: next(clock))
    for message in "abcde":
        say(message)
    assert said == ["a", "d"]


@pytest.mark.parametrize(("block", "widened"), [(64, True), (128, False)])
def test_a_run_says_that_fp8_is_another_model_on_a_cpu_where_it_is_widened(monkeypatch, block, widened):
    monkeypatch.setattr(engine_set, "load_engines", lambda *_: None)
    monkeypatch.setattr(engine_set, "native_set", lambda *_: None)
    config = {"quant_method": "fp8", "weight_block_size": [block, block]}
    shape = shape_from_config(architecture("qwen3-0.6b") | {"quantization_config": config}, "q")
    request = SimpleNamespace(models={"target": shape}, gpus={"cpu": None})
    native = EngineChoice("native", "", "it runs on a CPU")
    steps = []
    engine_set.ready_engines(
        SimpleNamespace(engine=native, request=request, spec=None, pair=None, plan=None), steps.append
    )
    assert ["another model than the checkpoint means" in step for step in steps] == [True] * widened
