"""What reaches a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.terminal import for_people, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07gone", r"\x1b[2J\x1b]0;title\x07gone"),
        ("row\rROW", r"row\rROW"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("\x9b31mred", r"\x9b31mred"),
        ("rows\u202elnosj.\u2066x", r"rows\u202elnosj.\u2066x"),
        ("a\u2028b\x00\x7f\x08", r"a\u2028b\x00\x7f\x08"),
        ("a\ud800b\U000e0041", r"a\ud800b\U000e0041"),
        ("每行 30 毫升 é 👍🏽", "每行 30 毫升 é 👍🏽"),
    ],
)
def test_what_would_control_a_terminal_is_written_out(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_no_control_or_format_character_is_left_but_line_ends_and_tabs(text):
    shown = printable(text)
    controls = {one for one in shown if unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"}}
    assert controls <= {"\n", "\t"}
    assert not any(
        unicodedata.bidirectional(one) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        for one in shown
    )
    assert printable(shown) == shown


def test_people_see_neither_secrets_nor_controls():
    assert for_people("\x1b https://h/a?token=abc") == r"\x1b https://h/a?REDACTED"
