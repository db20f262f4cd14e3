"""The GPU benchmark's command, at a size for CPUs; and its ceilings against figures worked out before."""

import json
import re

import pytest

from benchmarks import gpu, gpu_lines
from benchmarks.device_speed import ceiling, nominal
from benchmarks.synthetic import SHAPES, Order
from benchmarks.workloads import equal_lengths

TINY = ["--target", "tiny", "--drafter", "tiny", "--device", "cpu", "--prompt", "8", "--new", "8", "--repeats", "1"]


@pytest.mark.slow
def test_every_line_is_printed_and_written_and_every_token_right(capsys, tmp_path):
    file = tmp_path / "lines.json"
    asked = ["--rows", "1,4", "--k", "auto,2", "--acceptance", "1.0,0.3", "--transformers", "--json", str(file)]
    assert gpu.main([*TINY, *asked]) == 0
    lines = json.loads(file.read_text())["lines"]
    assert [(line["acceptance"], line["rows"], line["k"]) for line in lines] == [
        (acceptance, rows, k) for acceptance in (1.0, 0.3) for rows in (1, 4) for k in (None, 2)
    ]
    assert all(line["match"] == 1.0 and line["tokens_per_second"] > 0 for line in lines)
    assert [line["acceptance_rate"] for line in lines if line["k"] == 2][:2] == [1.0, 1.0]
    assert [line["k_shares"] for line in lines if line["k"] == 2] == [{"2": 1.0}] * 4
    printed = capsys.readouterr().out
    assert len(re.findall(r"\| 1\.000 \| [\d.]+ \| - \|$", printed, re.MULTILINE)) == len(lines)
    peers = re.findall(r"^\| (\S+).* \| (\d) \| [\d.,]+ \| 1\.000 \|$", printed, re.MULTILINE)
    assert peers == [("generate", "1"), ("assisted,", "1"), ("assisted,", "1"), ("generate", "4")]


@pytest.mark.slow
def test_one_wrong_row_makes_the_command_fail(capsys, monkeypatch):
    monkeypatch.setattr(gpu_lines.Rows, "right", lambda self, *_: len(self.prompts) - 1)
    assert gpu.main([*TINY, "--rows", "4", "--k", "0"]) == 1
    assert "| 0.750 |" in capsys.readouterr().out


@pytest.mark.slow
def test_mixed_lengths_and_a_split_target_run_alike(capsys):
    assert (
        gpu.main([*TINY, "--mixed", "--mixed-rows", "2", "--k", "2", "--placement", "2:1", "--dtype", "float32"]) == 0
    )
    assert "| 2 | 2 |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_profile_names_what_a_round_calls(capsys):
    assert gpu.main([*TINY, "--rows", "2", "--k", "1", "--profile"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| aten::mm |"))
    target, drafter = 2 * 7 + 1, 2 * 7 + 1  # products of a forward
    assert float(line.split("|")[2]) == pytest.approx(target + drafter, abs=2)


def test_ceilings_are_those_of_the_notes():
    # engine-facts.md, H100, prefill left out: 386 at k = 5 for one row, 220 for the target alone
    h100, rows = nominal("NVIDIA H100 80GB HBM3"), equal_lengths(100, 1, 128, 128, seed=0)
    assert ceiling(h100, SHAPES["8b"], None, rows, 0.8, None).tokens_per_second == pytest.approx(220, rel=0.02)
    best = ceiling(h100, SHAPES["8b"], SHAPES["1.7b"], rows, 0.8, None)
    assert best.tokens_per_second == pytest.approx(386, rel=0.02)
    assert ceiling(h100, SHAPES["8b"], SHAPES["1.7b"], rows, 0.8, best.k) == best
    assert nominal("NVIDIA H200").bandwidth == 4.8e12
    assert nominal("Another") is None


def test_expected_is_a_plain_walk():
    order = Order(8)
    assert order.expected([3, 1], 2) == [order.next[1].item(), order.next[order.next[1]].item()]
