"""The two-GPU table as a dry run, and its predictions beside what two H200s gave."""

import json
from functools import partial

import pytest

from benchmarks import gpu_lines, two_gpus
from specbatch.engine.config import EngineConfig
from specbatch.engine.make_engine import graphs_engine
from specbatch.engine.pipeline import RoundTimes

MS = 1e-3
TINY = ["--target", "tiny", "--drafter", "tiny", "--device", "cpu", "--prompt", "8", "--new", "8", "--repeats", "1"]


@pytest.mark.slow
def test_every_placement_has_a_line_for_one_group_and_one_for_as_many_as_pay(monkeypatch, capsys, tmp_path):
    """By plain PyTorch, with lanes though all is one CPU."""
    monkeypatch.setattr(gpu_lines, "make_engine", graphs_engine)
    monkeypatch.setattr(gpu_lines, "EngineConfig", partial(EngineConfig, drafter_apart=True))
    file = tmp_path / "lines.json"
    asked = ["--placements", "same,replicas,separate,two drafters", "--rows", "2,4", "--json", str(file)]
    assert two_gpus.main([*TINY, *asked]) == 0
    found = [(one["placement"], one["line"]["rows"], one["asked"]) for one in json.loads(file.read_text())["lines"]]
    assert found == [
        *[("same", rows, groups) for rows in (2, 4) for groups in (1, None)],
        *[("replicas", rows, 1) for rows in (2, 4)],
        *[("separate", rows, groups) for rows in (2, 4) for groups in (1, None)],
        *[("two drafters", rows, groups) for rows in (2, 4) for groups in (1, None)],
    ]
    table = capsys.readouterr().out.split("over replicas")[1]
    assert table.count("| 1.000 |") == len(found)


# Warm-up's drafts and verification of a group, of how many tokens a row's cache has more in the run, and what a round took: two H200, 8B and 1.7B,
# acceptance 0.8, `separate`: (rows, k, groups), ms, ms, tokens, ms.
MEASURED = [
    ((256, 0, 1), 0.00, 8.25, 64, 9.96),
    ((256, 2, 1), 8.37, 18.09, 64, 26.32),
    ((256, 2, 2), 5.75, 10.05, 64, 11.34),
    ((256, 2, 2), 5.76, 10.21, 64, 11.36),
    ((256, 0, 1), 0.00, 8.43, 64, 10.38),
]


@pytest.mark.parametrize(("line", "draft", "verify", "more", "took"), MEASURED)
def test_a_prediction_is_within_a_tenth_of_what_was_measured(line, draft, verify, more, took):
    (rows, k, groups), bandwidth = line, 0.85 * 4.8e12
    each = rows // groups
    longer = [each * more * 1024 * kib / bandwidth for kib in (112, 144)]  # KV of a token
    times = RoundTimes(((draft * MS + k * longer[0]),), (verify * MS + longer[1],))
    assert times.interval(groups) == pytest.approx(took * MS, rel=0.1)
