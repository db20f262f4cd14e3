"""What a folder's files are: rows, or left out with a word; no row is taken twice."""

import gzip
import os
import socket

import fsspec
import pytest

from specbatch.errors import DatasetError
from specbatch.runner.dataset.local import local_path
from tests.runner.tiny import dataset_at

ROW = b'{"prompt": "x"}\n'


def make(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("_dot_", ".")).write_bytes(data)
    return folder


def names(dataset):
    return [source.name.rpartition("/")[2] for source in dataset.sources]


def test_files_about_a_dataset_are_no_rows_and_what_is_left_out_is_said(tmp_path):
    folder = make(tmp_path / "in", **{"train.jsonl": ROW, "more.jsonlines": ROW, "c.json": ROW, "p.txt": b"x\n"})
    make(
        folder,
        **{
            "dataset_info.json": b"{\n}",
            "state.json": b"{}",
            "README.md": b"#",
            "LICENSE": b"-",
            ".gitattributes": b"*",
        },
    )
    make(
        folder,
        **{"_SUCCESS": b"", "manifest-00000-of-00001.json": b"{}", "readme.txt": b"about", "d.orc": b"ORC\0"},
    )
    (folder / "deeper").mkdir()
    dataset = dataset_at(folder)
    assert names(dataset) == ["c.json", "more.jsonlines", "p.txt", "train.jsonl"]
    assert dataset.left_out.startswith("left out of the dataset: d.orc (not named like rows), deeper (a folder), ")
    assert dataset.left_out.endswith("and 6 more")
    dataset.check_readable()
    assert dataset_at(make(tmp_path / "plain", **{"a.jsonl": ROW, ".hidden": b""})).left_out == ""


def test_rows_whose_files_are_named_like_notes_are_taken(tmp_path):
    rows = {"readme_prompts.jsonl": ROW, "license-questions.jsonl.gz": gzip.compress(ROW), "identity-theft.json": ROW}
    assert len(dataset_at(make(tmp_path / "in", **rows)).sources) == 3


@pytest.mark.parametrize("other", ["a.jsonl.gz", "a.jsonl.bz2", "a.jsonl.ZST", "a.csv", "a.parquet", "a.json.gz"])
def test_the_same_rows_with_and_without_compression_are_named(tmp_path, other):
    folder = make(tmp_path / "in", **{"a.jsonl": ROW, other: b"", "b.jsonl": ROW})
    for uri in (folder, folder / "*"):
        with pytest.raises(DatasetError, match="look like the same rows") as caught:
            dataset_at(uri)
        assert other in str(caught.value)
    assert names(dataset_at(folder / "*.jsonl")) == ["a.jsonl", "b.jsonl"]
    fsspec.filesystem("memory").pipe({"/twins/a.jsonl": ROW, f"/twins/{other}": b""})
    with pytest.raises(DatasetError, match="look like the same rows"):
        dataset_at("memory://twins")


def test_a_file_that_is_there_under_two_names_is_taken_once(tmp_path):
    folder = make(tmp_path / "in", **{"a.jsonl": ROW})
    (folder / "latest.jsonl").symlink_to("a.jsonl")
    dataset = dataset_at(folder)
    assert names(dataset) == ["a.jsonl"]
    assert "latest.jsonl (the same file as a.jsonl)" in dataset.left_out


def test_a_folder_without_rows_says_what_its_files_are(tmp_path):
    with pytest.raises(DatasetError, match="it is an ORC file"):
        dataset_at(make(tmp_path / "in", **{"rows.orc": b"ORC\x15\0"}))
    with pytest.raises(DatasetError, match=r"holds no files of rows; left out of the dataset: README\.md"):
        dataset_at(make(tmp_path / "notes", **{"README.md": b""}))
    with pytest.raises(DatasetError, match="holds no rows"):
        dataset_at(make(tmp_path / "hollow", **{"a.jsonl": b"", "b.jsonl": b"\n"})).check_readable()
    fsspec.filesystem("memory").pipe({"/tables/a.orc": b"ORC\x15\0"})
    with pytest.raises(DatasetError, match="it is an ORC file"):
        dataset_at("memory://tables")


def test_pipes_sockets_devices_and_links_to_nothing_are_named_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        server.bind("s.jsonl")
    for path, what in (
        (tmp_path / "pipe.jsonl", "a named pipe, and a run reads its dataset more than once"),
        (tmp_path / "s.jsonl", "a socket"),
        ("/dev/zero", "a device"),
        (tmp_path / "loop.jsonl", "a link that leads nowhere"),
        (tmp_path, "a link that leads nowhere"),
    ):
        with pytest.raises(DatasetError, match=what):
            dataset_at(path)
    (tmp_path / "loop.jsonl").unlink()
    make(tmp_path, **{"a.jsonl": ROW})
    assert "pipe.jsonl (a named pipe), s.jsonl (a socket)" in dataset_at(tmp_path).left_out


def test_a_file_uri_writes_a_space_as_20(tmp_path):
    file = make(tmp_path / "sp ace", **{"rows 1.jsonl": ROW}) / "rows 1.jsonl"
    for uri in (f"file://{str(file).replace(' ', '%20')}", f"file://{file}", f"file://localhost{file}"):
        assert list(dataset_at(uri).rows())
    literal = make(tmp_path / "a%20b", **{"r.jsonl": ROW}) / "r.jsonl"
    assert local_path(f"file://{literal}") == literal
    assert local_path("a%20b") == local_path("./a%20b")
