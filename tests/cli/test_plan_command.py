import dataclasses
import json

import pytest
from typer.testing import CliRunner

from specbatch.cli.main import app, main
from specbatch.results.hardware import Hardware
from specbatch.results.summary import RunSummary
from tests.results.builders import IDENTITY, finish_run, make_row

SPEC = """
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata: {name: test}
spec:
  target: {model: Qwen/Qwen3-8B}
  drafter: {model: Qwen/Qwen3-1.7B}
  placement: {gpus: 2}
  dataset: {uri: rows.jsonl}
  results: {dir: results}
"""

HEAD = {
    "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 12288,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 1, "vocab_size": 151936,
    "draft_vocab_size": 32000,
}  # fmt: skip


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    for name in ("TARGET_GPU", "DRAFTER_GPU", "GPU_STRATEGY", "TARGET_GPU_RATIO", "DRAFTER_GPU_RATIO"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC)
    return str(file)


def test_plan_works_without_gpus_files_and_network_and_says_what_it_assumed(spec, capsys):
    assert main(["plan", spec]) == 0
    said = capsys.readouterr().out
    assert "GPUs: H100-80GB, assumed" in said
    assert "built-in table" in said
    assert "2 replicas" in said


def test_gpus_override_the_count_of_the_spec(spec, capsys):
    assert main(["plan", spec, "--gpus", "8xA100-80GB", "--output", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert len(data["replicas"]) == 8
    assert data["devices"][0]["gpu"] == "A100-80GB"


def test_a_product_alone_keeps_the_count_of_the_spec(spec, capsys):
    assert main(["plan", spec, "--gpus", "L40S", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["devices"]) == 2


def test_a_count_that_contradicts_the_ratio_is_a_spec_error(spec, capsys):
    ratio = ["--set", "placement.strategy=multi_gpu_ratio", "--set", "placement.ratio={target: 1, drafter: 1}"]
    assert main(["plan", spec, *ratio, "--gpus", "3xH100"]) == 64
    assert "spec.placement.ratio" in capsys.readouterr().err


def test_the_node_selector_names_the_product(spec, capsys):
    label = "job.nodeSelector={nvidia.com/gpu.product: NVIDIA-A100-SXM4-40GB}"
    assert main(["plan", spec, "--set", label]) == 0
    assert "GPUs: A100-40GB, from spec.job.nodeSelector" in capsys.readouterr().out


def test_acceptance_and_length_change_the_ceiling(spec, capsys):
    ceilings = []
    for extra in ([], ["--acceptance", "0.3"], ["--mean-length", "100"]):
        assert main(["plan", spec, "-o", "json", *extra]) == 0
        ceilings.append(json.loads(capsys.readouterr().out)["ceiling"]["tokens_per_second"])
    assert ceilings[1] < ceilings[0] < ceilings[2]


def test_what_does_not_fit_ends_with_70(spec):
    assert main(["plan", spec, "--gpus", "2xT4", "--set", "batching.maxSequences=64"]) == 70


def test_an_unknown_model_ends_with_66_and_a_remedy(spec, capsys):
    assert main(["plan", spec, "--set", "target.model=acme/unknown"]) == 66
    assert "hf download acme/unknown config.json" in capsys.readouterr().err


@pytest.mark.parametrize("gpus", ["8xH1000", "H1000"])
@pytest.mark.parametrize("cpu", [(), ("--set", "placement.gpus=0")])
def test_an_unknown_gpu_is_wrong_usage_whatever_the_spec_asks_for(spec, capsys, gpus, cpu):
    assert main(["plan", spec, "--gpus", gpus, *cpu]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_override_variables_count_as_in_the_run(spec, monkeypatch, capsys):
    monkeypatch.setenv("GPU_STRATEGY", "separate")
    assert main(["plan", spec]) == 0
    said = capsys.readouterr().out
    assert "Placement: separate" in said
    assert "overridden by the environment: GPU_STRATEGY=separate" in said


def test_the_cpu_is_planned_with_the_embedded_or_known_models(spec, capsys):
    assert main(["plan", spec, "--set", "placement.gpus=0", "--set", "target.model=Qwen/Qwen3-0.6B", "-o", "json"]) in {
        0,
        70,
    }
    assert json.loads(capsys.readouterr().out)["replicas"][0]["target"]["device_map"] == {"": "cpu"}


def test_piped_output_is_not_cut_at_eighty_columns(spec):
    done = CliRunner(env={"COLUMNS": "40"}).invoke(app, ["plan", spec])
    assert "TARGET_GPU=cuda:0;cuda:1" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) > 80


@pytest.mark.slow
def test_a_family_without_a_formula_is_counted_and_spread_by_its_own_module_names(spec, capsys, tmp_path):
    sizes = {"n_embd": 1600, "n_layer": 48, "n_head": 25, "n_positions": 1024, "vocab_size": 50257, "n_inner": None}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **sizes}))
    sets = ["placement.gpus=3", "placement.strategy=multi_gpu_ratio", "placement.ratio={target: 2, drafter: 1}"]
    sets += [f"target.model={tmp_path}", "batching.maxLength=1024"]
    assert main(["plan", spec, "-o", "json", *(f"--set={one}" for one in sets)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["models"]["target"]["params"] == 1_557_611_200  # GPT-2 XL
    assert data["models"]["target"]["kv_bytes_per_token"] == 48 * 2 * 1600 * 2
    placed = data["replicas"][0]["target"]["device_map"]
    assert (placed["transformer.wte"], placed["lm_head"], placed["transformer.h.47"]) == ("cuda:0", "cuda:0", "cuda:1")


def former_run(folder, **models):
    """A run of the spec's models on one H100, of 100 rounds."""
    identity = dataclasses.replace(
        IDENTITY, models={"target": "Qwen/Qwen3-8B@1", "drafter": "Qwen/Qwen3-1.7B@1"} | models
    )
    summary = RunSummary(
        prompt_tokens=400, completion_tokens=600, seconds=2.0, rounds=100, row_rounds=6400, drafted=12800, accepted=9000,
        drafted_by_position=(6400, 6400), accepted_by_position=(4800, 4200), phase_seconds={"prefill": 1.0, "draft": 0.6, "verify": 0.9},
    )  # fmt: skip
    hardware = Hardware(gpus={"NVIDIA H100 80GB HBM3": 1}, gpu_bytes={"NVIDIA H100 80GB HBM3": 85 * 10**9})
    finish_run(folder, [make_row(0)], identity=identity, summary=summary, hardware=hardware)


@pytest.mark.slow
def test_a_run_of_the_spec_that_has_ended_gives_the_figures(spec, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", spec, "-o", "json"]) == 0
    before = json.loads(capsys.readouterr().out)
    former_run(tmp_path / "results" / "test")
    assert main(["plan", spec, "-o", "json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert before["slowdown"] == {}
    assert min(after["slowdown"].values()) > 1
    assert after["ceiling"]["acceptance_rate"] == 0.75
    assert after["env_strings"] == before["env_strings"]
    assert (
        "the run in results/test (NVIDIA H100 80GB HBM3, 64 rows and k = 2.0 on average); its prefill took 40%"
        in after["notes"][1]
    )
    assert main(["plan", spec]) == 0
    said = capsys.readouterr().out
    assert "Predicted tokens/s, all replicas together, from the step times of a run" in said
    assert max(map(len, said.splitlines())) <= 100
    assert main(["plan", spec, "--measured", "none", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == before


def test_a_run_of_other_models_is_left_out_and_named_only_where_it_was_asked_for(spec, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    former_run(tmp_path / "results" / "test", target="other/model@1")
    assert main(["plan", spec, "-o", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["slowdown"] == {}
    assert any("gives no step times: it is of other models" in note for note in data["notes"])
    assert main(["plan", spec, "--measured", "results/test"]) == 74
    assert "name another, or leave --measured out" in capsys.readouterr().err


def test_what_prompts_share_is_a_note_where_they_do(spec, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", spec, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["shared_prompts"] is None
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": "word " * 100 + str(at)}) + "\n" for at in range(5))
    )
    assert main(["plan", spec]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "prompts: about 41% of the prompts of the first 5 rows, by bytes since there is no tokenizer here" in said
    assert "5 prompts (row 0 is the first) begin with the same 256 bytes" in said
    head = tmp_path / "head"
    head.mkdir()
    (head / "config.json").write_text(json.dumps(HEAD))
    eagle = ["--set", f"drafter={{method: eagle3, model: {head}}}", "--set", "placement.gpus=0"]
    assert main(["plan", spec, *eagle]) in {0, 70}
    assert "each row computes its own" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    assert main(["plan", spec]) == 0
    assert "prompts:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "rwkv"},
        {"model_type": "jamba", "mamba_d_state": 16},
        {"model_type": "llama", "intermediate_size": 128, "quantization_config": {"quant_method": "modelopt"}},
    ],
)
def test_a_target_that_no_engine_here_runs_is_refused_in_the_first_words_without_a_speed(
    spec, tmp_path, config, capsys
):
    numbers = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 99}
    (tmp_path / "config.json").write_text(json.dumps(config | numbers))
    chosen = ["--set", f"target.model={tmp_path}", "--set", "drafter=null", "--set", "placement.gpus=0"]
    assert main(["plan", spec, *chosen]) == 66
    said = capsys.readouterr().out
    assert said.startswith("Will not run here: the native engine cannot run the target, which has ")
    assert "Remedy: pip install 'specbatch[vllm]'" in said
    assert "Recommended" not in said
    assert "tokens/s" not in said
    assert main(["plan", spec, *chosen, "--output", "json"]) == 66
    data = json.loads(capsys.readouterr().out)
    assert "vLLM is not installed" in data["refused"]
    assert data["recommendation"]["placement"] is data["recommendation"]["tokens_per_second"] is None
