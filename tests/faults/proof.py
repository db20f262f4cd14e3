"""The proof that a run ended as it should: every input row once, with the right bytes, and everything that vouches for it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from specbatch.results.collect.collect import collect
from tests.faults.cases import answer, answers


class Kept:
    """Bytes that must not change any more: remembered after every disturbance, looked for after it."""

    def __init__(self) -> None:
        self._prefixes: dict[str, bytes] = {}

    def remember(self, name: str, data: bytes) -> None:
        """The whole lines of a file are finished rows from here on."""
        whole = data[: data.rfind(b"\n") + 1]
        assert whole.startswith(self._prefixes.get(name, b"")), f"{name} lost finished rows"
        self._prefixes[name] = whole

    def remember_folder(self, run_dir: Path) -> None:
        """After a kill everything that was written is still there: the machine goes on."""
        for path in row_files(run_dir):
            self.remember(path.name, path.read_bytes())
        self.check(run_dir)

    def check(self, run_dir: Path) -> None:
        """Finished rows have kept their bytes."""
        for name, prefix in self._prefixes.items():
            data = (run_dir / name).read_bytes() if (run_dir / name).exists() else b""
            assert data.startswith(prefix), f"{name} lost finished rows: {len(prefix)} bytes were, now {data[:200]!r}"


def row_files(run_dir: Path) -> list[Path]:
    """Part and errors files."""
    return sorted([*run_dir.glob("part-*.jsonl"), *run_dir.glob("errors-*.jsonl")])


def check_whole(run_dir: Path, reference: dict[int, list[dict[str, Any]]]) -> None:
    """Every row of the input once, as in the undisturbed run; manifest and _SUCCESS are there and right; nothing lies about."""
    found = answers(run_dir)
    twice = {index: values for index, values in found.items() if len(values) != 1}
    assert not twice, f"rows more than once: {twice}"
    assert sorted(found) == sorted(reference), f"rows missing: {sorted(reference.keys() - found.keys())}"
    for index, values in found.items():
        assert values == reference[index], f"row {index}"
    manifest = check_manifest(run_dir)
    success = json.loads((run_dir / "_SUCCESS").read_bytes())
    assert success["results"] + success["errors"] == len(reference) == sum(entry["rows"] for entry in manifest["files"])
    check_collected(run_dir, reference)


def check_tidy(run_dir: Path) -> None:
    """Nothing that an earlier attempt left half written lies about."""
    # Those of _SUCCESS and the report are any shard's: nobody can tell whether somebody writes them now. They stay, a few bytes.
    leftovers = {path.name for path in run_dir.glob(".*-of-*.tmp")}
    assert not leftovers, leftovers


def check_manifest(run_dir: Path) -> dict[str, Any]:
    """The manifest is complete, and names all files with their length and hash."""
    manifest = json.loads((run_dir / "manifest-00000-of-00001.json").read_bytes())
    assert manifest["complete"]
    assert sorted(entry["name"] for entry in manifest["files"]) == [path.name for path in row_files(run_dir)] or (
        # an errors file without rows need not be named or be there
        {entry["name"] for entry in manifest["files"]}
        >= {path.name for path in row_files(run_dir) if path.stat().st_size}
    )
    for entry in manifest["files"]:
        data = (run_dir / entry["name"]).read_bytes()
        assert (entry["rows"], entry["bytes"]) == (data.count(b"\n"), len(data)), entry["name"]
        assert entry["sha256"] == hashlib.sha256(data).hexdigest(), entry["name"]
    return manifest


def check_collected(source: Path | str, reference: dict[int, list[dict[str, Any]]]) -> None:
    """What a user gets of it: every row once, in the order of the input."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.jsonl"
        collected = collect(source, out, errors=out.with_name("errors.jsonl"))
        assert collected.complete, collected
        rows, errors = (
            [answer(line) for line in path.read_bytes().splitlines()] for path in (out, out.with_name("errors.jsonl"))
        )
    assert rows == sorted(rows, key=lambda row: row[0]), "not in the order of the input"
    assert errors == sorted(errors, key=lambda row: row[0])
    assert dict(rows + errors) == {index: values[0] for index, values in reference.items()}
    assert len(rows) + len(errors) == len(reference)
