import pytest

from tests.runner.rows.test_row import read


def test_a_comma_behind_an_object_is_left_of_an_array_and_no_part_of_the_row():
    rows = read(b'{"id": "a", "prompt": "x"},', b'{"id": "b", "prompt": "y"} , ')
    assert [(row.id, row.prompt) for row in rows] == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"prompt": "a"}{"prompt": "b"}', "more than one JSON value on the line (the next begins at column 16)"),
        (b'{"prompt": "a"}\r{"prompt": "b"}', "more than one JSON value on the line"),
        (bytes(9), "zero bytes: the file was not written to its end"),
        (b'{"prompt": "a"}\0\0', "zero bytes"),
        (b"{'prompt': 'a'}", "single quotes and comments are not JSON"),
        (b"// a comment", "single quotes and comments are not JSON"),
        (b'{"prompt": "a",},', "line 1 column"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_in_its_own_words(line, what):
    assert what in read(line).message
