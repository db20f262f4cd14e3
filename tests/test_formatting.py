import pytest

from specbatch.formatting import (
    by_count,
    format_bar,
    format_bytes,
    format_duration,
    format_facts,
    format_percent,
    format_shares,
    format_table,
    one_line,
    pluralize,
    rough_duration,
    wrap_fact,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (123_456_789, "123 MB"), (5e15, "5,000.0 TB")],
)
def test_bytes_have_a_unit_of_powers_of_1000(number, text):
    assert format_bytes(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.424, "0.42 s"),
        (48.31, "48.3 s"),
        (59.97, "60.0 s"),
        (725, "12 min 05 s"),
        (3599.7, "1 h 00 min"),
        (11_220, "3 h 07 min"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.6, "2 s"), (59.6, "1 min"), (185, "3 min"), (18_000, "5 h"), (345_600, "4 days")]
)
def test_a_rough_duration_has_one_unit(seconds, text):
    assert rough_duration(seconds) == text


def test_a_percentage_is_never_rounded_to_all_or_nothing():
    assert [format_percent(share) for share in (0.0, 0.002, 0.37, 0.998, 1.0, 1.204)] == [
        "0%", "0.2%", "37%", "99.8%", "100%", "120%",
    ]  # fmt: skip


def test_one_is_singular_and_none_is_said_as_no():
    assert [pluralize(number, "error") for number in (0, 1, 2000)] == ["no errors", "1 error", "2,000 errors"]


def test_shares_come_largest_first_without_those_under_half_a_percent():
    assert format_shares({"idle": 0.001, "draft": 1.0, "verify": 3.0}) == "verify 75%, draft 25%"
    assert format_shares({"draft": 0.0}) == format_shares({}) == ""


def test_equal_counts_come_by_name():
    assert by_count({"b": 2, "a": 2, "c": 9}) == [("c", 9), ("a", 2), ("b", 2)]


def test_columns_of_a_table_are_aligned_to_the_side_they_ask_for():
    assert format_table([("a", "bb", "c"), ("long", "b", "cc")], left=[0, -1]) == ["a     bb  c", "long   b  cc"]


def test_texts_of_facts_begin_in_one_column():
    assert format_facts([("a", "1"), ("long", "2")]) == ["  a     1", "  long  2"]
    assert format_facts([]) == []


def test_a_long_fact_goes_on_below_its_own_text():
    lines = wrap_fact("published", "word " * 40)
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("published    word")
    assert lines[1].startswith(" " * 13 + "word")
    assert wrap_fact("waiting", "") == ["waiting      "]


def test_a_text_becomes_one_line_of_so_many_characters():
    assert one_line("no\n route ", 8) == "no route"
    assert one_line("no route to host", 8) == "no rout…"


def test_a_bar_is_full_at_the_end_and_never_longer():
    assert format_bar(0.5).count("━") == 20
    assert format_bar(1.7) == "━" * 40 + " 100%"
