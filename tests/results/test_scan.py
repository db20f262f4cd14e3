import pytest

from specbatch.results.rows import OpenAIForm
from specbatch.results.scan import ScannedRow, scan_result
from specbatch.results.totals import Totals
from specbatch.results.wire import decode_result, encode_result
from tests.results.builders import make_row

ROWS = [
    make_row(0),
    make_row(1, correct=True, answer="x", prompt=[{"role": "user", "content": "ä"}]),
    make_row(2, text="half a pair: \ud83d"),
    make_row(3, text='"\\\n\x00 😀'),
    make_row(4, openai=OpenAIForm(model="m")),
]


@pytest.mark.parametrize("row", ROWS)
def test_a_scanned_row_counts_and_is_known_as_the_row_itself(row):
    line = encode_result(row)[:-1]
    scanned, decoded = scan_result(line), decode_result(line)
    assert (scanned.id, scanned.fingerprint, scanned.index) == (decoded.id, decoded.fingerprint, decoded.index)
    counted, expected = Totals(), Totals()
    counted.add_result(scanned)
    expected.add_result(decoded)
    assert counted == expected


def test_our_own_form_takes_the_fast_way():
    assert isinstance(scan_result(encode_result(ROWS[0])[:-1]), ScannedRow)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\0" * 50,
        encode_result(ROWS[0])[:-3],
        encode_result(ROWS[0]).replace(b'"id": "', b'"id": 7, "x": "'),
    ],
)
def test_what_is_no_row_is_a_value_error(line):
    with pytest.raises(ValueError):  # noqa: PT011 - as decode_result: any, and the file is cut there
        scan_result(line)
