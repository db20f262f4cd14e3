"""benchmarks.cascade as far as a CPU goes: both ways give the same attention, and a line of the table tells of each case."""

import re

import pytest

from benchmarks import cascade


@pytest.mark.slow
def test_each_case_has_a_line_and_both_ways_give_the_same(capsys):
    cascade.main(["--device", "cpu", "--rows", "2,3", "--shared", "256", "--queries", "1,2", "--shape", "1.7B"])
    lines = re.findall(
        r"^\| (\d) \| 256 \| (\d) \|.*\| (?:yes|no) \| (0\.00\d\d) \|$", capsys.readouterr().out, re.MULTILINE
    )
    assert [line[:2] for line in lines] == [("2", "1"), ("3", "1"), ("2", "2"), ("3", "2")]
    assert all(float(worst) < 1e-3 for *_, worst in lines)
