"""Parquet and Arrow: a few rows at a time, columns as JSON has them, from stores by ranges."""

import datetime as dt
import decimal
import io
import json
import uuid

import pyarrow as pa
import pytest
from pyarrow import parquet

from specbatch.backoff import Backoff
from specbatch.errors import DatasetError
from specbatch.runner.dataset.chunks import ReadPosition
from specbatch.runner.dataset.readers import open_rows
from specbatch.runner.dataset.source import Source
from specbatch.runner.retry import Retrier
from specbatch.runner.rows.row import BadRow
from specbatch.runner.rows.row_reader import RowReader
from tests import s3, web
from tests.runner.tiny import dataset_at, row_rules

DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 5)  # noqa: DTZ001 - a column without a time zone


def bytes_of(table, **options):
    parquet.write_table(table, file := io.BytesIO(), **options)
    return file.getvalue()


def written(path, columns, kind="parquet"):
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


VALUES = [
    (pa.array([1, None]), [1, None]),
    (pa.array([1.5, float("nan")]), [1.5, None]),
    (pa.array([True, None]), [True, None]),
    (pa.array(["x", None], pa.large_string()), ["x", None]),
    (pa.array(["x", "x"]).dictionary_encode(), ["x", "x"]),
    (pa.array([DAY, None]), ["2024-02-29", None]),
    (pa.array([NOON], pa.timestamp("us")), ["2024-02-29T12:00:00.000005"]),
    (pa.array([1709208000000000001], pa.timestamp("ns")), ["2024-02-29T12:00:00"]),
    (pa.array([1709208000000000001], pa.timestamp("ns", "UTC")), ["2024-02-29T12:00:00+00:00"]),
    (pa.array([dt.time(1, 2)], pa.time64("us")), ["01:02:00"]),
    (pa.array([dt.timedelta(seconds=1.5)], pa.duration("ms")), [1.5]),
    (pa.array([decimal.Decimal("1.50")]), ["1.50"]),
    (pa.array([[1, None], []]), [[1, None], []]),
    (pa.array([{"role": "user", "content": "x", "name": None}]), [{"role": "user", "content": "x"}]),
    (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), [{"a": 1}]),
    (pa.array([[{"when": 1709208000000000001}]], pa.list_(pa.struct([("when", pa.timestamp("ns"))]))), [[{"when": "2024-02-29T12:00:00"}]]),
    (pa.array([uuid.UUID(int=1).bytes], pa.uuid()), ["00000000-0000-0000-0000-000000000001"]),
    (pa.nulls(1), [None]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "expected"), VALUES, ids=lambda value: str(getattr(value, "type", "")))
@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_values_are_what_json_can_say(tmp_path, column, expected, kind):
    path = written(tmp_path / "rows", {"c": column}, kind)
    found = [row.fields["c"] for row in dataset_at(path).rows()]
    assert found == expected
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_binary_columns_are_not_read_and_only_a_row_that_needs_one_says_so(tmp_path, kind):
    image = pa.array([{"bytes": b"\x89PNG", "path": "a.png"}])
    columns = {"image": image, "raw": pa.array([b"x"]), "text": ["t"], "__index_level_0__": [7]}
    row = next(dataset_at(written(tmp_path / "rows", columns, kind)).rows())
    assert row.fields == {"text": "t"}
    assert row.unread == "image (binary data), raw (binary data), __index_level_0__ (pandas' index)"
    bad = RowReader(row_rules(prompt_field="image")).read(row)
    assert isinstance(bad, BadRow)
    assert "columns that are not read: image (binary data)" in bad.message
    with pytest.raises(DatasetError, match=r"no column can be read: raw \(binary data\)"):
        dataset_at(written(tmp_path / "none", {"raw": [b"x"]}, kind)).check_readable()


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["p", "p"])
    with pytest.raises(DatasetError, match="two columns are named 'p'"):
        dataset_at(written(tmp_path / "rows", table, "arrow")).check_readable()


def test_a_file_that_was_cut_is_named(tmp_path):
    data = bytes_of(pa.table({"p": ["x" * 100] * 100}))
    (tmp_path / "rows.parquet").write_bytes(data[:-20])
    with pytest.raises(DatasetError, match="the Parquet file is damaged, or was cut") as caught:
        dataset_at(tmp_path / "rows.parquet").check_readable()
    assert caught.value.where == str(tmp_path / "rows.parquet")


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = written(tmp_path / "rows", {"p": ["x"]})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DatasetError, match="read by pyarrow, which is not installed") as caught:
        dataset_at(path).check_readable()
    assert "specbatch[runner]" in caught.value.remedy


class Counted(io.BytesIO):
    """Counts what is read of it."""

    taken = 0

    def read(self, size=-1):
        data = super().read(size)
        Counted.taken += len(data)
        return data


@pytest.mark.slow
def test_the_first_row_is_there_before_the_file_was_read_and_memory_is_bounded():
    text = [f"{number:x} {pow(3, number, 1 << 600):x}" for number in range(100_000)]
    data = bytes_of(pa.table({"prompt": text}), row_group_size=len(text))
    assert len(data) > 10 << 20
    Counted.taken = 0
    before = pa.total_allocated_bytes()
    source = Source("rows", len(data), lambda: Counted(data), lambda: Counted(data))
    with open_rows(source, position := ReadPosition(), "auto") as rows:
        assert next(rows).fields["prompt"] == text[0]
        assert Counted.taken < len(data) / 4
        assert position.made_into_rows == pytest.approx(len(data) / len(text))
        most = max(pa.total_allocated_bytes() - before for _ in rows)
    assert most < len(data) / 2


def test_the_number_of_rows_is_known_from_the_first_on(tmp_path):
    dataset = dataset_at(written(tmp_path / "rows", {"p": ["x"] * 5000}))
    rows = dataset.rows()
    next(rows)
    assert dataset.estimated_rows == 5000
    assert (len(list(rows)), dataset.rows_in_all) == (4999, 5000)


ROWS = [f"row {number} {pow(5, number, 1 << 300):x}" for number in range(3000)]
QUICK = Backoff(first=0.01, longest=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
@pytest.mark.parametrize("then", [[], ["reset", 503, ("cut", 7), ("cut", 9001), 401]], ids=["calm", "outages"])
def test_a_table_of_a_store_is_read_by_ranges_and_goes_on_after_outages(tmp_path, monkeypatch, kind, then):
    monkeypatch.setattr("specbatch.runner.dataset.remote._BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr("specbatch.runner.dataset.tables._BUFFER_BYTES", 1 << 14)
    columns = pa.table({"prompt": ROWS, "image": [b"\0" * 3000] * len(ROWS)})
    path = tmp_path / "rows"
    if kind == "parquet":
        parquet.write_table(columns, path, row_group_size=500, compression="none", use_dictionary=False)
    else:
        with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(str(path), columns.schema) as writer:
            writer.write_table(columns, max_chunksize=500)
    data = path.read_bytes()
    with web.serving(files={"/rows": data}) as server:
        dataset = dataset_at(f"{server.url}/rows", retrier=Retrier(5, say=lambda _: None, backoff=QUICK))
        dataset.check_readable()
        rows = dataset.rows()
        first = next(rows)
        server.troubles.extend(then)
        assert [first.fields["prompt"], *(row.fields["prompt"] for row in rows)] == ROWS
        assert not server.troubles
        assert kind != "parquet" or server.bytes_sent < len(data) / 3  # the images were not fetched


@pytest.mark.slow
def test_a_table_in_s3_is_read(tmp_path, monkeypatch):
    with s3.serving(tmp_path, monkeypatch) as server:
        written(server.bucket() / "rows.parquet", {"prompt": ROWS})
        assert [row.fields["prompt"] for row in dataset_at("s3://bucket/rows.parquet").rows()] == ROWS


def test_a_server_without_ranges_is_named():
    data = bytes_of(pa.table({"prompt": ROWS}))
    with web.serving(files={"/rows": data}, ranges=False) as server:
        with pytest.raises(DatasetError, match="is read by ranges, and its server gives none") as caught:
            list(dataset_at(f"{server.url}/rows").rows())
        assert "copy the file" in caught.value.remedy
