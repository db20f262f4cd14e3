"""The real vLLM behind the runner, on the CPU: `make test-vllm`. Where it is not installed, as in `make test`, these are skipped."""

import functools
import gc
import json
import multiprocessing
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

import specbatch.embedded
from specbatch.api import load_spec
from specbatch.errors import DeviceError, ExitCode, ModelError, OtherRunError, OutOfMemoryError, SpecError
from specbatch.plan.gpu_products import product_named
from specbatch.results.manifest import read_manifests
from specbatch.runner.inputs import RunInputs
from specbatch.runner.job import run_job
from specbatch.runner.models.load import find_pair
from specbatch.runner.verify.verify import verify_run
from specbatch.runner.vllm.engine import VllmEngine
from specbatch.runner.vllm.installation import installed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(installed() is None, reason="vLLM is not installed: make test-vllm"),
    pytest.mark.filterwarnings("ignore"),  # vLLM's, and torch's because of it
]

EMBEDDED = Path(specbatch.embedded.__file__).parent
VLLM = ("engine.name=vllm", "engine.options={enforce_eager: true}")  # compiling takes minutes
ROWS = 24


@pytest.fixture
def job(tmp_path):
    """job("path=value", ...) -> the quickstart's first rows, on the target alone."""

    def make(*changes, rows=ROWS, drafter="null"):
        return load_spec(
            "job/quickstart.yaml",
            [
                f"drafter={drafter}",
                f"dataset.limit={rows}",
                f"results.dir={tmp_path}/results",
                "results.report=false",
                *changes,
            ],
        )

    return make


def run(job, **options):
    summary = run_job(job, **options)
    folder = Path(job.spec.results.dir) / job.results_name
    rows = [json.loads(line) for line in (folder / "part-00000-of-00001.jsonl").read_text().splitlines()]
    errors = [json.loads(line) for line in (folder / "errors-00000-of-00001.jsonl").read_text().splitlines()]
    return summary, {row["id"]: row for row in rows}, {row["id"]: row for row in errors}


def texts(rows):
    return {name: (row["text"], row["finish_reason"]) for name, row in rows.items()}


@pytest.fixture
def native(job):
    """The texts of the native engine."""
    return lambda *changes, **options: texts(
        run(job("engine.name=native", "results.name=native", *changes, **options))[1]
    )


def test_texts_are_those_of_the_native_engine_and_the_manifest_names_engine_and_version(job, native):
    summary, rows, errors = run(job(*VLLM))
    assert texts(rows) == native()
    assert not errors
    assert summary.engine == f"vLLM {installed()}, target alone"
    [manifest] = read_manifests(Path(job().spec.results.dir) / "quickstart")
    assert manifest.identity.engine == f"vllm {installed()}"
    assert "spec.engine.name says so" in manifest.placement_tree
    assert run(job(*VLLM))[0].skipped == ROWS, "a second start has nothing left to do"
    with pytest.raises(OtherRunError, match=f"engine: vllm {installed()} -> native"):
        run(job("engine.name=native"))


def test_rows_have_their_own_options_and_one_that_vllm_refuses_is_an_error_row(job, native, tmp_path):
    asked = [
        {"id": "plain", "prompt": "Count from 3 to 9."},
        {"id": "short", "prompt": "Count from 3 to 9.", "max_tokens": 2},
        {"id": "stop", "prompt": "Count from 3 to 9.", "stop": ["6"]},
        {"id": "bias", "prompt": "Count from 3 to 9.", "logit_bias": {"20": -50}},
        {"id": "penalty", "prompt": "Count from 3 to 9.", "presence_penalty": 1.5, "frequency_penalty": 0.5},
        {"id": "min", "prompt": "Count from 3 to 9.", "min_tokens": 40},
        {"id": "banned", "prompt": "Count from 3 to 9.", "suppress_tokens": [20]},
        {"id": "words", "prompt": "Count from 3 to 9.", "bad_words": ["product", "7"]},
        {"id": "two", "prompt": "Count from 3 to 9.", "n": 2, "temperature": 0.8},
        {"id": "ngrams", "prompt": "Count from 3 to 9.", "no_repeat_ngram_size": 2},
        {"id": "long", "prompt": "Count from 3 to 9. " * 200},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in asked))
    changes = (f"dataset.uri={file}", "dataset.answerField=null")
    _, rows, errors = run(job(*VLLM, *changes))
    expected = native(*changes)
    assert [choice["id"] for choice in rows.pop("two")["choices"]] == ["two#0", "two#1"]
    assert texts(rows) == {name: text for name, text in expected.items() if name not in {"ngrams", "two"}}
    assert len({rows[name]["text"] for name in ("plain", "banned", "words")}) == 3
    assert rows["short"]["usage"]["completion_tokens"] == 2
    assert "no_repeat_ngram_size is not supported" in errors["ngrams"]["message"]
    assert errors["long"]["code"] == "prompt_too_long"


STRUCTURED = [
    {"id": "schema", "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "properties": {"n": {"type": "integer"}, "s": {"enum": ["a", "b"]}}, "required": ["n", "s"]}}}},
    {"id": "object", "response_format": {"type": "json_object"}},
    {"id": "regex", "guided_regex": "[0-9]{2}-[a-f]{3}"},
    {"id": "choice", "guided_choice": ["yes", "no"]},
    {"id": "grammar", "guided_grammar": 'start: "up" | "down"'},
    {"id": "plain"},
    {"id": "bad", "guided_regex": "("},
]  # fmt: skip
LOGPROBS = [
    {"id": "top", "logprobs": True, "top_logprobs": 3, "prompt_logprobs": 2},
    {"id": "own", "logprobs": True, "stop": ["6"], "prompt_logprobs": 0},
]


@pytest.fixture
def asking(tmp_path):
    """asking(rows) -> the changes that make them the dataset, each with a prompt."""

    def make(rows):
        file = tmp_path / "asking.jsonl"
        file.write_text("".join(json.dumps({"prompt": "Count from 3 to 9.", **row}) + "\n" for row in rows))
        return f"dataset.uri={file}", "dataset.answerField=null", "decoding.maxNewTokens=40"

    return make


def test_structured_outputs_are_those_of_the_native_engine(job, native, asking):
    _, rows, errors = run(job(*VLLM, *asking(STRUCTURED)))
    assert texts(rows) == native(*asking(STRUCTURED))
    assert rows["choice"]["text"] in {"yes", "no"}
    assert errors["bad"]["message"].startswith("structured output: the regular expression cannot be had")


def test_a_tokenizer_with_its_decoder_behind_others_gives_the_native_structured_outputs(job, native, asking, tmp_path):
    """One made from a GGUF: llguidance takes its letters for bytes, so that spaces and accents had no token."""
    folder = shutil.copytree(EMBEDDED / "target", tmp_path / "target")
    file = folder / "tokenizer.json"
    stored = json.loads(file.read_text())
    stored["decoder"] = {
        "type": "Sequence",
        "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, stored["decoder"]],
    }
    file.write_text(json.dumps(stored))
    asked = [
        {"id": "choice", "guided_choice": ["New York", "Zürich", "你好"]},
        {"id": "regex", "guided_regex": "[a-z]{2} [é你]{2}"},
        {"id": "hot", "temperature": 3},
    ]
    changes = f"target.model={folder}", *asking(asked)
    _, rows, errors = run(job(*VLLM, *changes))
    assert texts(rows) == {name: text for name, text in native(*changes).items() if name != "hot"}
    assert set(rows) == {"choice", "regex"}
    assert "temperature must be in [0, 2]" in errors["hot"]["message"]


def test_log_probabilities_are_those_of_the_native_engine_in_its_form(job, asking):
    (_, rows, _), (_, native, _) = (
        run(job(*engine, *asking(LOGPROBS))) for engine in (VLLM, ("engine.name=native", "results.name=native"))
    )
    for name, field, top in (
        *(("top", "logprobs", 3), ("own", "logprobs", 0)),
        *(("top", "prompt_logprobs", 2), ("own", "prompt_logprobs", 0)),
    ):
        found, expected = (of[name][field]["content"] for of in (rows, native))
        assert [(one["token"], one["bytes"]) for one in found] == [(one["token"], one["bytes"]) for one in expected]
        of_prompt = field == "prompt_logprobs"
        assert [one["logprob"] is None for one in found] == [of_prompt] + [False] * (len(found) - 1)
        for one, other in list(zip(found, expected, strict=True))[of_prompt:]:
            assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-3)
            assert [likely["token"] for likely in one["top_logprobs"]] == [
                likely["token"] for likely in other["top_logprobs"]
            ]
            assert len(one["top_logprobs"]) == top


def test_sampled_rows_are_the_same_in_a_second_run_and_differ_from_row_to_row(job, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"id": f"r{n}", "prompt": "Say something."}) + "\n" for n in range(6)))
    changes = (f"dataset.uri={file}", "dataset.answerField=null", "decoding.temperature=1.5", "batching.maxSequences=1")
    first = texts(run(job(*VLLM, *changes))[1])
    assert texts(run(job(*VLLM, *changes, "results.name=again"))[1]) == first
    assert len(set(first.values())) > 3


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """A mixture of experts of real architecture, with the embedded target's tokenizer."""
    folder = tmp_path_factory.mktemp("mixture")
    torch.manual_seed(3)
    config = Qwen3MoeConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, moe_intermediate_size=64, num_hidden_layers=2, num_experts=8,
        num_experts_per_tok=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=512,
        initializer_range=0.1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED / "target").save_pretrained(folder)
    return folder


def test_a_mixture_of_experts_has_the_texts_of_the_native_engine(job, native, mixture):
    changes = (f"target.model={mixture}", "decoding.maxNewTokens=16")
    _, rows, errors = run(job(*VLLM, *changes))
    assert texts(rows) == native(*changes)
    assert len(rows) == ROWS
    assert not errors


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A LoRA adapter of the embedded target, and the target with the adapter merged into it."""
    folder, merged = tmp_path_factory.mktemp("adapter"), tmp_path_factory.mktemp("merged")
    shutil.copytree(EMBEDDED / "target", merged, dirs_exist_ok=True)
    weights = {name: weight.float() for name, weight in load_file(merged / "model.safetensors").items()}
    chance, low = torch.Generator().manual_seed(5), {}
    for name in [name for name in weights if name.endswith(("q_proj.weight", "o_proj.weight"))]:
        rows, columns = weights[name].shape
        down, up = (torch.randn(shape, generator=chance) * 0.3 for shape in ((4, columns), (rows, 4)))
        low[f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight"] = down
        low[f"base_model.model.{name.removesuffix('.weight')}.lora_B.weight"] = up
        weights[name] += 2.0 * (up @ down)
    save_file(low, folder / "adapter_model.safetensors")
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "o_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder, merged


def test_an_adapter_has_the_texts_of_the_target_that_it_is_merged_into(job, native, adapter):
    folder, merged = adapter
    _, rows, _ = run(job(*VLLM, f"target.adapter={folder}"))
    expected = native(f"target.model={merged}")
    assert texts(rows) == expected != native("results.name=without")
    [manifest] = read_manifests(Path(job().spec.results.dir) / "quickstart")
    assert manifest.identity.models["adapter"].startswith(f"{folder}@content-")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ("engine.options={enforce_eagr: true}", SpecError, "did you mean enforce_eager?"),
        ("engine.options={max_model_len: 9}", SpecError, "set spec.batching.maxLength"),
        ("engine.options={pipeline_parallel_size: 2}", SpecError, "set tensor_parallel_size instead"),
        ("engine.options={load_format: nonsense}", ModelError, "nonsense"),
        ("engine.options={kv_cache_memory_bytes: 1000}", OutOfMemoryError, "ran out of memory"),
        ("decoding.noRepeatNgramSize=2", SpecError, "vLLM bans no n-grams"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name_with_its_exit_code(job, change, error, said):
    with pytest.raises(error) as caught:
        run_job(job("engine.name=vllm", change))
    assert said in str(caught.value)


def test_verify_replays_with_vllm_and_judges_what_differs_by_its_scores(job, asking):
    asked = [*STRUCTURED[:-1], {"id": "penalty", "repetition_penalty": 1.3}, {"id": "sampled", "temperature": 1.0}]
    asked += [{"id": f"r{number}", "prompt": f"Count from 3 to {number}."} for number in range(10, 14)]
    finished = job(*VLLM, *asking(asked))
    _, rows, _ = run(finished)
    folder = Path(finished.spec.results.dir) / finished.results_name
    found = verify_run(folder)
    assert (found.exact, found.ties, found.unexplained, found.not_replayable) == (len(asked) - 1, 0, 0, 1)
    assert (found.engine, found.scores) == (f"vllm {installed()}", "")
    part = folder / "part-00000-of-00001.jsonl"
    changed = {"r10": rows["r11"]["text"], "penalty": rows["penalty"]["text"][:-2] + "x."}
    assert changed["r10"] != rows["r10"]["text"]
    lines = [{**row, "text": changed.get(name, row["text"])} for name, row in rows.items()]
    part.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = verify_run(folder)
    assert (found.exact, found.unexplained) == (len(asked) - 3, 2)
    assert {one.id for one in found.divergences} == {"r10", "penalty"}
    assert found.scores == "float32"
    assert all(one.margin is None or one.margin > one.bound for one in found.divergences)


@pytest.mark.parametrize(
    ("replicas", "options", "sizes", "seen"),
    [
        (1, {}, (4, 1), [None]),
        (1, {"pipeline_parallel_size": 2}, (2, 2), [None]),
        (2, {}, (2, 1), ["GPU-a,GPU-b", "GPU-c,GPU-d"]),
        (2, {"pipeline_parallel_size": 2}, (1, 2), ["GPU-a,GPU-b", "GPU-c,GPU-d"]),
        (4, {}, (1, 1), ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]),
    ],
)
def test_each_replica_of_a_placement_has_its_gpus_and_they_share_the_model(
    job, monkeypatch, replicas, options, sizes, seen
):
    """As far as vLLM's own configuration: there are no GPUs here."""
    from specbatch.runner.vllm import load  # imports vLLM

    asked = job(*VLLM, "placement.gpus=4", f"placement.replicas={replicas}", f"engine.options={json.dumps(options)}")
    env, gpus, visible = {}, [product_named("H100-80GB")] * 4, "GPU-a,GPU-b,GPU-c,GPU-d"
    inputs = RunInputs.of(asked, find_pair(asked.spec, env, print), gpus, env, few_threads=False, remedy="")
    loaded = []

    def made(_name, arguments, *, apart):
        loaded.append((arguments, os.environ["CUDA_VISIBLE_DEVICES"] if apart else None))
        config = SimpleNamespace(max_num_seqs=8)
        model = SimpleNamespace(dtype=torch.float32, get_vocab_size=lambda: 512)
        core = SimpleNamespace(shutdown=lambda: None)
        return SimpleNamespace(
            engine_core=core, vllm_config=SimpleNamespace(scheduler_config=config, model_config=model)
        )

    monkeypatch.setattr(load, "_load", made)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    ready = load.load_engines(inputs, print)
    found = [(one["tensor_parallel_size"], one.get("pipeline_parallel_size", 1)) for one, _ in loaded]
    assert found == [sizes] * replicas
    assert [one for _, one in loaded] == seen
    assert len(ready.engines) == len(ready.placement) == replicas
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


def test_the_engine_process_of_a_replica_that_is_killed_ends_the_run_with_69(job, monkeypatch):
    """Several replicas are a process each; a CPU has one, so that it is put apart here."""
    from specbatch.runner.vllm import load  # imports vLLM

    step = VllmEngine._step

    def step_then_kill(engine):
        ended = step(engine)
        if engine.stats.finished >= 3:
            for child in multiprocessing.active_children():
                child.kill()
        return ended

    apart = functools.partial(load._load, apart=True)
    monkeypatch.setattr(load, "_load", lambda name, arguments, **_: apart(name, arguments))
    monkeypatch.setattr(VllmEngine, "_step", step_then_kill)
    with pytest.raises(DeviceError, match="engine has died") as caught:
        run_job(job(*VLLM))
    assert caught.value.exit_code == ExitCode.GPU_FAULT == 69
    monkeypatch.undo()
    summary, rows, _ = run(job(*VLLM))
    assert len(rows) == ROWS
    assert 0 < summary.skipped < ROWS, "rows that had ended are kept"


@pytest.fixture
def shared(monkeypatch):
    """The engine of a target that two processes share by tensor parallelism, as they would two GPUs: here by the two halves of the CPU."""
    cores = sorted(os.sched_getaffinity(0))
    halves = cores[: len(cores) // 2] or cores, cores[len(cores) // 2 :]
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "|".join(",".join(map(str, half)) for half in halves))

    return "engine.name=vllm", "engine.options={enforce_eager: true, tensor_parallel_size: 2}"


@pytest.mark.parametrize("drafts", [False, True], ids=["alone", "drafts"])
def test_a_target_that_two_processes_share_has_the_native_texts(job, native, shared, drafts):
    drafter = {"drafter": "{model: 'embedded:drafter', dtype: float32}"} if drafts else {}
    _, rows, errors = run(job(*shared, *["decoding.numSpeculativeTokens=3"] * drafts, **drafter))
    assert texts(rows) == native()
    assert not errors
    gc.collect()
    assert not multiprocessing.active_children(), "they end with the engine"


def test_one_of_the_processes_that_share_a_target_is_killed_and_the_run_ends_with_69(job, shared, monkeypatch):
    step = VllmEngine._step

    def step_then_kill(engine):
        ended = step(engine)
        if engine.stats.finished >= 3:
            multiprocessing.active_children()[-1].kill()
        return ended

    monkeypatch.setattr(VllmEngine, "_step", step_then_kill)
    with pytest.raises(DeviceError, match="engine has died") as caught:
        run_job(job(*shared))
    assert caught.value.exit_code == ExitCode.GPU_FAULT
    monkeypatch.setattr(VllmEngine, "_step", step)
    summary, rows, _ = run(job(*shared))
    assert len(rows) == ROWS
    assert 0 < summary.skipped < ROWS, "rows that had ended are kept"


def test_with_drafts_bans_and_grammars_give_the_native_texts_and_sampled_rows_are_refused_on_a_cpu(job, native, asking):
    asked = [
        *STRUCTURED[:-1],
        {"id": "banned", "suppress_tokens": [20]},
        {"id": "words", "bad_words": ["product", "7"]},
        {"id": "min", "min_tokens": 30},
        *LOGPROBS,
        {"id": "sampled", "temperature": 0.8},
    ]
    drafter = "{model: 'embedded:drafter', dtype: float32}"
    _, rows, errors = run(job(*VLLM, *asking(asked), "decoding.numSpeculativeTokens=3", drafter=drafter))
    expected = native(*asking(asked))
    del expected["sampled"]
    assert texts(rows) == expected
    assert "set drafter to null" in errors["sampled"]["message"]
    assert sum(row["speculation"]["accepted"] or 0 for row in rows.values()) > 0


# Last: with numba, which its n-gram drafter imports, vLLM 0.32 does not start a second time in a process.
@pytest.mark.parametrize(
    ("drafter", "said"),
    [
        ("{model: 'embedded:drafter', dtype: float32}", "drafts by draft_model, k 3"),
        ("{method: ngram}", "drafts by ngram, k 3"),
    ],
)
def test_drafts_change_no_text_and_are_counted_a_row(job, native, drafter, said):
    summary, rows, _ = run(job(*VLLM, "decoding.numSpeculativeTokens=3", drafter=drafter))
    assert texts(rows) == native()
    assert said in summary.engine
    assert summary.drafted == sum(row["speculation"]["drafted"] for row in rows.values()) > 0
    assert summary.accepted == sum(row["speculation"]["accepted"] for row in rows.values())
    assert summary.drafted_by_position[0] >= summary.drafted_by_position[-1] > 0
