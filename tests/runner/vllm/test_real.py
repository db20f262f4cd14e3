"""The real vLLM behind the runner, on the CPU: `make test-vllm`. Where it is not installed, as in `make test`, these are skipped."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

import specbatch.embedded
from specbatch.api import load_spec
from specbatch.errors import ModelError, OtherRunError, OutOfMemoryError, SpecError
from specbatch.results.manifest import read_manifests
from specbatch.runner.job import run_job
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
        {"id": "long", "prompt": "Count from 3 to 9. " * 200},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in asked))
    changes = (f"dataset.uri={file}", "dataset.answerField=null")
    _, rows, errors = run(job(*VLLM, *changes))
    expected = native(*changes)
    assert texts(rows) == {name: text for name, text in expected.items() if name != "banned"}
    assert rows["short"]["usage"]["completion_tokens"] == 2
    assert "banned" in errors["banned"]["message"]
    assert errors["long"]["code"] == "prompt_too_long"


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
        ("engine.options={tensor_parallel_size: 2}", SpecError, "is not the 1 GPU of a replica"),
        ("engine.options={load_format: nonsense}", ModelError, "nonsense"),
        ("engine.options={kv_cache_memory_bytes: 1000}", OutOfMemoryError, "ran out of memory"),
        ("decoding.badWords=[x]", SpecError, "is not passed on to vLLM"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name_with_its_exit_code(job, change, error, said):
    with pytest.raises(error) as caught:
        run_job(job("engine.name=vllm", change))
    assert said in str(caught.value)


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
