"""benchmarks.attention as far as a CPU goes: flex_attention, uncompiled, is given the rows' own positions and pages."""

import re

import pytest
import torch

from benchmarks.inputs import attention_cases
from benchmarks.peers import attention_peers
from specbatch.engine.graphs.kv.paging import PAGE

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
FLEXES = [attention_peers.flex, attention_peers.flex_paged]
CASES = [("8B", 1, 6, 150), ("8B", 3, 4, 120), ("1.7B", 3, 1, 2 * PAGE)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few layers, on the CPU."""
    monkeypatch.setattr(attention_cases, "COLD", 1)
    torch.manual_seed(0)


def build(*sizes):
    return attention_cases.build(*sizes, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("sizes", CASES)
@pytest.mark.parametrize("peer", FLEXES)
def test_flex_attention_gives_what_the_reference_gives(peer, sizes):
    case = build(*sizes)
    out = peer(case)(1)
    assert attention_cases.error(case, out, 1) < 0.01
    assert attention_cases.error(case, out, 2) > 0.1


def blocks(peer, case, monkeypatch):
    """Of each row, the blocks of positions that flex_attention may read, by its mask."""
    masks = []
    monkeypatch.setattr(
        attention_peers, "flex_attention", lambda q, *_, block_mask, **__: masks.append(block_mask) or q
    )
    peer(case)(0)
    return [line.nonzero()[:, 0].tolist() for line in masks[0].to_dense()[:, 0, 0]]


def test_a_compiled_kernel_reads_no_block_beyond_a_row_and_no_page_of_another(monkeypatch):
    """Compiled, it goes by the mask's blocks; uncompiled, as above, only by its function."""
    case = build("1.7B", 5, 2, 200)
    held = [-(-length // PAGE) for length in case.lengths.tolist()]
    assert len(set(held)) > 1
    assert blocks(attention_peers.flex, case, monkeypatch) == [list(range(count)) for count in held]
    pages = [sorted(line[:count].tolist()) for line, count in zip(case.pages.table, held, strict=False)]
    assert blocks(attention_peers.flex_paged, case, monkeypatch) == pages


@pytest.mark.slow
def test_a_contestant_that_fails_is_a_line_of_the_table_and_the_others_are_measured(monkeypatch, capsys):
    pytest.importorskip("triton")
    from benchmarks import attention  # not above: tests/engine/graphs decides how kernels are imported

    def fails(case):
        raise RuntimeError("no\nkernel")

    monkeypatch.setattr(attention, "ours", fails)
    monkeypatch.setattr(attention, "flash", fails)
    monkeypatch.setattr(attention, "build", build)
    monkeypatch.setattr(attention, "seconds", lambda call, layers: 1e-6)
    monkeypatch.setattr(attention, "FLEX", [(2, 1, 70), (32, 2, 5)])
    attention.against_flex("1.7B")
    printed = capsys.readouterr().out
    assert re.findall(r"^(1.7B.*)", printed, re.MULTILINE) == ["1.7B 2 x 1 at 70", "1.7B 32 x 2 at 5"]
    assert re.findall(r"^  (\w+) +RuntimeError: no kernel$", printed, re.MULTILINE) == ["ours", "flash"] * 2
    measured = re.findall(r"^  (\w.*?) +1\.0 us .*  0\.0\d+$", printed, re.MULTILINE)
    assert measured == ["flex", "flex", "flex, paged"]
