"""The table of engines, of the native one alone: the other is not installed where these run."""

import pytest

from benchmarks.engines import Line, arguments_of, measure, table

ASKED = [
    "job/quickstart.yaml",
    "--rows",
    "1,2",
    "--new",
    "4",
    "--repeats",
    "2",
    "--shared-rows",
    "3",
    "--shared-tokens",
    "16",
]


@pytest.mark.slow
def test_a_contestant_has_a_line_for_each_case_with_the_tokens_of_every_row():
    lines = list(measure(arguments_of(ASKED), "native"))
    assert [(line.case, len(line.texts)) for line in lines] == [("1", 2), ("2", 4), ("3 that share 16", 3)]
    assert all(len(tokens) == 4 for line in lines for tokens in line.texts)
    assert all(line.accepted_length == 1 and line.tokens_per_second > 0 for line in lines)


def test_contestants_are_held_to_the_first_of_their_case():
    def line(contestant, speed, *texts):
        return Line("2", contestant, "", speed, 1.0, 3.0, list(texts))

    _, _, first, second = table([line("native", 100, [1], [2]), line("vllm", 150, [1], [3])])
    assert first == "| 2 | native | 100 | 1.00 | 1.00 | 1.000 | 3 |"
    assert second == "| 2 | vllm | 150 | 1.50 | 1.00 | 0.500 | 3 |"
