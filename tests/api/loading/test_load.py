from __future__ import annotations

import io
import sys

import pytest

from specbatch.api import load_spec, parse_spec
from specbatch.errors import SpecError
from tests.api.specs import MINIMUM


def refusal(path) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    (problem,) = caught.value.problems
    assert caught.value.source == str(path)
    return str(problem)


def test_a_file_is_read(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(MINIMUM)
    assert load_spec(file) == load_spec(str(file)) == parse_spec(MINIMUM)
    assert load_spec(file, ["decoding.seed=3"]).spec.decoding.seed == 3


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMUM.replace("\n", "\r\n").encode())
    assert load_spec(file) == parse_spec(MINIMUM)


def test_a_dash_is_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MINIMUM.encode())))
    assert load_spec("-") == parse_spec(MINIMUM)


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "quickstart.yaml").write_text(MINIMUM)
    assert "did you mean" in refusal(tmp_path / "quikstart.yaml")
    assert "specbatch init" in refusal(tmp_path / "nowhere" / "b.yaml")


def test_a_folder_is_refused_and_its_files_are_named(tmp_path):
    assert "is a folder\n  remedy: name a file" in refusal(tmp_path)
    (tmp_path / "a.yaml").write_text(MINIMUM)
    assert f"name a file in it: {tmp_path}/a.yaml" in refusal(tmp_path)


def test_a_file_below_a_file_cannot_be_read(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(MINIMUM)
    assert "cannot be read: Not a directory" in refusal(file / "b.yaml")
    assert "cannot be read" in refusal("a\0b")


def test_binary_and_other_encodings_are_refused(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\x7fELF\x00\x01")
    assert "is a binary file" in refusal(file)
    file.write_bytes(MINIMUM.encode("utf-16"))
    assert "UTF-16" in refusal(file)
    file.write_bytes(b"a: 1\nb: caf\xe9\n")
    assert "is not UTF-8 text: byte 0xe9 in line 2" in refusal(file)


def test_a_huge_file_is_refused_without_reading_it_whole(tmp_path):
    file = tmp_path / "a.yaml"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)
    assert "is larger than 1 MiB" in refusal(file)
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        parse_spec("#" * ((1 << 20) + 1))


def test_all_problems_come_in_one_error_under_the_file_name(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(MINIMUM + "  decoding: {seed: -1, topK: 3}\n")
    with pytest.raises(SpecError) as caught:
        load_spec(file)
    assert str(caught.value).startswith(f"{file}: 2 problems\nspec.decoding.seed: ")
