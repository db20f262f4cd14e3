"""The placements benchmark's command as a dry run: eight planned GPUs, all of them the CPU."""

import json
import re
from functools import partial

import pytest

from benchmarks import gpu_lines, placements
from benchmarks.gpu_lines import CausalLM
from benchmarks.inputs.synthetic import SHAPES
from benchmarks.predictions.placement_checks import DeviceMemory
from specbatch.engine.config import EngineConfig
from specbatch.engine.make_engine import graphs_engine

JOB = "job/qwen3-8b-ratio-6-2.yaml"
TINY = ["--target", "tiny", "--drafter", "tiny", "--device", "cpu", "--prompt", "8", "--new", "8", "--repeats", "1"]


@pytest.mark.slow
def test_every_placement_is_planned_built_read_back_and_measured(capsys, tmp_path):
    file = tmp_path / "lines.json"
    names = ["6:2", "4:4", "separate", "same"]
    asked = ["--placements", ",".join(names), "--rows", "4,1", "--k", "auto,2", "--json", str(file)]
    assert placements.main([JOB, *TINY, *asked]) == 0
    found = json.loads(file.read_text())
    assert [one["placement"] for one in found["placements"]] == names
    assert [one["plan"]["strategy"] for one in found["placements"]] == ["multi_gpu_ratio"] * 2 + names[2:]
    assert [len(one["plan"]["replicas"][0]["target"]["stages"]) for one in found["placements"]] == [6, 4, 1, 1]
    assert [(line["placement"], line["rows"], line["k"]) for line in found["lines"]] == [
        (name, rows, k) for name in names for rows in (1, 4) for k in (None, 2)
    ]
    assert all(line["match"] == 1.0 and line["tokens_per_second"] > 0 for line in found["lines"])
    memory = [one for line in found["lines"] for one in line["memory"]]
    assert [(one["device"], one["difference"], one["faults"]) for one in memory] == [("cpu", 0.0, [])] * 16
    printed = capsys.readouterr().out
    assert re.findall(r"^(\S+): read back: 54 tensors stand where the plan puts them$", printed, re.MULTILINE) == names
    assert "├── cuda:0 H100-80GB  embedding, layer 0 " in printed
    assert len(re.findall(r"^\| (?:6:2|4:4|separate|same) .*\| 1\.000 \|$", printed, re.MULTILINE)) == 2 * 16


@pytest.mark.slow
def test_each_measured_figure_has_its_prediction_beside_it(monkeypatch, capsys):
    """By plain PyTorch, with lanes though all is one CPU."""
    monkeypatch.setattr(gpu_lines, "make_engine", graphs_engine)
    monkeypatch.setattr(gpu_lines, "EngineConfig", partial(EngineConfig, drafter_apart=True))
    asked = ["--placements", "2:1+1,separate", "--rows", "4", "--k", "2", "--groups", "2"]
    assert placements.main([JOB, *TINY, *asked]) == 0
    printed = capsys.readouterr().out
    assert "2:1+1: read back: 81 tensors stand where the plan puts them" in printed
    for line in re.findall(r"^\| (?:2:1\+1|separate) \| 4 \| 2 \|.*\| 1\.000 \|$", printed, re.MULTILINE):
        _, _, _, groups, _, steady, predicted, took, thought, off, busy, expected, *_ = line.split(" | ")
        assert groups == "2"
        assert float(predicted.replace(",", "")) > 0 < float(steady.replace(",", ""))
        assert int(off[:-1]) == pytest.approx(100 * (float(took) / float(thought) - 1), abs=2)
        assert "%" in expected
        assert "%" in busy or busy == "-"


@pytest.mark.slow
def test_the_jobs_own_placement_is_the_default(capsys):
    assert placements.main([JOB, *TINY, "--rows", "1", "--k", "1"]) == 0
    printed = capsys.readouterr().out
    assert "TARGET_GPU_RATIO=6\n  DRAFTER_GPU_RATIO=2\n" in printed
    assert re.findall(r"^(\S+): read back", printed, re.MULTILINE) == ["6:2"]


@pytest.mark.slow
def test_a_tensor_that_stands_elsewhere_is_named_and_fails_the_command(capsys, monkeypatch, tmp_path):
    real, file = CausalLM.placement, tmp_path / "lines.json"
    moved = {"model.layers.1.mlp.up_proj.weight": "cuda:3"}
    monkeypatch.setattr(CausalLM, "placement", lambda self: {**real(self), **moved})
    assert placements.main([JOB, *TINY, "--placements", "separate,same", "--json", str(file)]) == 1
    wrong = [
        f"{role}: model.layers.1.mlp.up_proj.weight is on cuda:3, planned for cpu" for role in ("target", "drafter")
    ]
    assert f"separate: read back: {'; '.join(wrong)}" in capsys.readouterr().out
    (found,) = json.loads(file.read_text())["placements"]
    assert found["differences"] == wrong


@pytest.mark.slow
def test_one_wrong_row_makes_the_command_fail(monkeypatch):
    monkeypatch.setattr(gpu_lines.Rows, "right", lambda self, *_: len(self.prompts) - 1)
    assert placements.main([JOB, *TINY, "--placements", "same", "--rows", "2", "--k", "1"]) == 1


@pytest.mark.slow
def test_pages_of_the_engine_are_those_of_the_plan_and_the_padding_page(monkeypatch, tmp_path):
    file = tmp_path / "lines.json"
    monkeypatch.setattr(gpu_lines, "make_engine", graphs_engine)  # by plain PyTorch: on a CPU nothing else has pages
    placements.main([JOB, *TINY, "--rows", "4", "--k", "auto,1", "--json", str(file)])
    for line in json.loads(file.read_text())["lines"]:
        (cpu,) = line["memory"]
        page_of_pair = 2 * 64 * 2 * SHAPES["tiny"].kv_numbers  # bfloat16
        assert cpu["kv_compares"]
        assert (cpu["planned_kv"], cpu["kv"]) == (4 * page_of_pair, 5 * page_of_pair)
        assert cpu["planned_weights"] == cpu["weights"]


def test_memory_beyond_the_plan_is_marked():
    memory = DeviceMemory("cuda:0", 100, 100, 56, 50, kv_compares=True, peak=180, planned_total=180)
    assert (memory.difference, memory.faults) == (0.04, [])
    memory = DeviceMemory("cuda:0", 100, 100, 58, 50, kv_compares=True, peak=181, planned_total=180)
    assert memory.faults == ["beyond 5%", "peak above the plan"]
    empty = DeviceMemory("cuda:5", 0, 0, 0, 0, kv_compares=True, peak=0, planned_total=180)
    assert (empty.difference, empty.faults) == (0, [])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([JOB, "--placements", "6-2"], "'6-2' is not same, separate, N:M or N:M+M"),
        ([JOB, "--k", "0"], "leaves the drafter out"),
        (["job/quickstart.yaml"], "leaves the strategy open"),
        (["job/smollm2.yaml"], "has no drafter model"),
    ],
)
def test_what_cannot_be_measured_is_refused(asked, said, capsys):
    with pytest.raises(SystemExit):
        placements.main(asked)
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_plan_of_real_size_is_that_of_the_job_with_a_head_that_is_not_tied(capsys, monkeypatch):
    monkeypatch.setattr(placements, "_measure", lambda *_: True)
    assert placements.main([JOB, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "Placement: multi_gpu_ratio, 512 rows at once of up to 256 tokens" in printed
    assert re.findall(r"^    in all +(\S+)", printed, re.MULTILINE) == ["15.3"]
    drafters = re.findall(r"^└── cuda:[67] .*, head +(\S+) GiB", printed, re.MULTILINE)
    assert drafters == ["3.8", "3.8"]  # GiB: 3.2 with a tied head
    assert "Memory: fits" in printed
