"""Two pods on one volume have the same process id, often 1: nothing of theirs may get into each other's way."""

from __future__ import annotations

import os
from pathlib import Path

from specbatch.results.storage.durable import write_atomic
from specbatch.results.storage.folder import Folder


def test_two_writers_of_one_file_at_the_same_moment_both_succeed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    replace, path = Path.replace, tmp_path / "_SUCCESS"
    nested = []

    def replace_after_the_other(self, target):
        if not nested:
            nested.append(True)
            write_atomic(path, b"the other's\n")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_after_the_other)
    write_atomic(path, b"ours\n")
    assert path.read_bytes() == b"ours\n"
    nested.clear()
    source = tmp_path / "source"
    source.write_bytes(b"copied\n")
    Folder(tmp_path).put("_SUCCESS", source)
    assert path.read_bytes() == b"copied\n"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["_SUCCESS", "source"]
