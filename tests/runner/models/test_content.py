import os
import shutil

import pytest

from specbatch.runner.models import content
from specbatch.runner.models.content import file_hash, text_files, weights_hash

FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "config.json"]


@pytest.fixture
def folder(pair, tmp_path):
    return shutil.copytree(pair[0], tmp_path / "m")


@pytest.mark.parametrize("name", [*FILES, "merges.txt", "tokenizer.model", "additional_chat_templates/tool_use.jinja"])
def test_a_change_of_any_file_that_decides_on_text_is_a_change_of_that_file(folder, name):
    before = text_files(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    with (folder / name).open("ab") as file:
        file.write(b" ")
    after = text_files(folder)
    assert {one for one in {**before, **after} if before.get(one) != after.get(one)} == {name}


def test_a_copy_elsewhere_with_other_files_beside_is_the_same(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    (moved / "README.md").write_text("hello")
    (moved / "modeling.py").write_text("")
    os.mkfifo(moved / "tokenizer_of_nobody.json")  # never opened: that would wait for a writer
    assert text_files(moved) == text_files(folder)
    assert weights_hash(moved) == weights_hash(folder)


def test_code_counts_where_it_is_run(folder):
    (folder / "modeling.py").write_text("one")
    before = text_files(folder, code=True)
    (folder / "modeling.py").write_text("two")
    assert text_files(folder, code=True) != before


def test_a_gguf_files_header_counts(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + b"tokens" * 10)
    before = text_files(path)
    assert set(before) == {"m.gguf (header)"}
    path.write_bytes(b"GGUF" + b"Tokens" * 10)
    assert text_files(path) != before


def test_a_huge_file_is_told_by_its_size_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_WHOLE_BYTES", 1 << 18)
    path = tmp_path / "tokenizer.json"
    data = bytearray(1 << 19)
    path.write_bytes(data)
    before = file_hash(path)
    for place, seen in ((0, True), (1 << 18, False), (-1, True)):
        other = bytearray(data)
        other[place] = 1
        path.write_bytes(other)
        assert (file_hash(path) != before) is seen
    path.write_bytes(data + b"\0")
    assert file_hash(path) != before
