"""The GPU benchmark's command, at a size for CPUs; and its ceilings against figures worked out before."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest

from benchmarks import gpu, gpu_lines, profile_rounds, shared_prefix
from benchmarks.device_speed import ceiling, nominal
from benchmarks.inputs.synthetic import SHAPES, Order
from benchmarks.inputs.workloads import equal_lengths
from benchmarks.shared_prefix import Case

TINY = ["--target", "tiny", "--drafter", "tiny", "--device", "cpu", "--prompt", "8", "--new", "8", "--repeats", "1"]


@pytest.mark.slow
def test_every_line_is_printed_and_written_and_every_token_right(capsys, tmp_path):
    file = tmp_path / "lines.json"
    asked = ["--rows", "1,4", "--k", "auto,2", "--acceptance", "1.0,0.3", "--transformers", "--json", str(file)]
    assert gpu.main([*TINY, *asked]) == 0
    lines = json.loads(file.read_text())["lines"]
    assert [(line["acceptance"], line["rows"], line["k"]) for line in lines] == [
        (acceptance, rows, k) for rows in (1, 4) for acceptance in (1.0, 0.3) for k in (None, 2)
    ]
    assert all(line["match"] == 1.0 and line["tokens_per_second"] > 0 for line in lines)
    assert [line["acceptance_rate"] for line in lines if line["k"] == 2][::2] == [1.0, 1.0]
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
    assert "| 2 | 560 | 0.8 | 2 |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_profile_counts_what_a_round_calls_without_prefill(monkeypatch):
    shown = []
    monkeypatch.setattr(profile_rounds, "_show", lambda *what: shown.append(what))
    assert gpu.main([*TINY, "--rows", "2", "--k", "1", "--profile"]) == 0
    [(title, _, calls, rounds, _)] = shown
    assert title == "2 rows, k 1"
    assert calls["aten::mm"] / rounds == 2 * (2 * 7 + 1)  # products of a forward, target and drafter


def test_a_profile_is_ordered_by_the_time_in_all_calls_of_a_round(capsys):
    times, calls = Counter({"short|name": 300.0, "long": 900.0}), Counter({"short|name": 30, "long": 6})
    profile_rounds._show("1 rows, k 5", times, calls, 3, 500.0)
    printed = capsys.readouterr().out.splitlines()
    assert "0.40 ms of kernels a round, 12 calls; a round takes 0.50 ms" in printed[1]
    assert printed[-3:] == [
        "| long | 2.0 | 150.0 | 0.300 | 0.750 |",
        "| short/name | 10.0 | 10.0 | 0.100 | 0.250 |",
        "| others | - | - | 0.000 | 0.000 |",
    ]


def test_ceilings_are_those_of_the_notes():
    # engine-facts.md, H100, prefill left out: 386 at k = 5 for one row, 220 for the target alone
    h100, rows = nominal("NVIDIA H100 80GB HBM3"), equal_lengths(100, 1, 128, 128, seed=0)
    assert ceiling(h100, SHAPES["8b"], None, rows, 0.8, None).tokens_per_second == pytest.approx(220, rel=0.02)
    best = ceiling(h100, SHAPES["8b"], SHAPES["1.7b"], rows, 0.8, None)
    assert best.tokens_per_second == pytest.approx(386, rel=0.02)
    assert ceiling(h100, SHAPES["8b"], SHAPES["1.7b"], rows, 0.8, best.k) == best


def test_ceilings_read_windows_and_fp8_as_the_kernels_do():
    gemma, small = SHAPES["gemma3-12b"], SHAPES["8b"]
    assert gemma.read_kv(1024, 2) == 1024 * 2 * gemma.kv_numbers
    assert gemma.read_kv(8192, 2) == pytest.approx((8192 / 6 + 1024 * 5 / 6) * 2 * gemma.kv_numbers)
    assert SHAPES["mistral-7b"].read_kv(8192, 2) == 4096 * 2 * SHAPES["mistral-7b"].kv_numbers
    assert replace(small, fp8_kv=True).read_kv(100, 2) == pytest.approx(small.read_kv(100, 2) * 130 / 256)
    assert nominal("NVIDIA H200").bandwidth == 4.8e12
    assert nominal("Another") is None


def test_expected_is_a_plain_walk():
    order = Order(8)
    assert order.expected([3, 1], 2) == [order.next[1].item(), order.next[order.next[1]].item()]


@pytest.mark.slow
def test_a_head_of_the_targets_size_drafts_as_often_right_as_it_is_made_to(capsys, tmp_path):
    file = tmp_path / "lines.json"
    tiny = ["--target", "tiny", "--drafter", "eagle3", "--device", "cpu", "--dtype", "float32", "--repeats", "1"]
    asked = [
        "--prompt",
        "8,24",
        "--new",
        "24",
        "--rows",
        "6",
        "--k",
        "1",
        "--acceptance",
        "1.0,0.4",
        "--json",
        str(file),
    ]
    assert gpu.main([*tiny, *asked]) == 0
    lines = json.loads(file.read_text())["lines"]
    assert [(line["prompt"], line["acceptance"]) for line in lines] == [(8, 1.0), (8, 0.4), (24, 1.0), (24, 0.4)]
    assert all(line["acceptance_rate"] == pytest.approx(line["acceptance"], abs=0.12) for line in lines)
    assert "| prompt |" in capsys.readouterr().out


@pytest.mark.slow
def test_rows_that_begin_alike_have_a_line_in_each_order_shared_and_not(capsys, monkeypatch):
    small = [Case("one beginning", 1, 100, 8, 9, 2), Case("nothing", 4, 0, 1, 20, 4), Case("documents", 2, 90, 3, 0, 2)]
    monkeypatch.setattr(shared_prefix, "cases", lambda *_: small)
    assert gpu.main([*TINY, "--rows", "3", "--k", "auto", "--shared-prefix", "--cascade"]) == 0
    lines = re.findall(
        r"^\| ([a-z ]+) \| ([a-z ]+) \| (yes|no|apart|cascade) \| (\d+) \|.*\| 1\.000 \|$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert lines == [
        ("one beginning", "random", "yes", "8"),
        ("one beginning", "random", "no", "2"),
        *(("one beginning", "as it is", shared, "3") for shared in ("apart", "cascade", "yes") * 2),
        *([("nothing", "as it is", "yes", "4"), ("nothing", "as it is", "no", "4")] * 3),
        ("documents", "sorted", "yes", "6"),
        ("documents", "random", "yes", "6"),
        ("documents", "random", "no", "2"),
    ]
