"""How many rows go through everything but the models, and what it takes to find a million of them finished.

    python -m benchmarks.rows [--rows 1000000] [--folder DIR]

The engine is replaced by one that answers at once, so what is measured is reading, tokenising, writing and, in a second process, the
restart: every row is read again and found finished. A third process starts after the last rows were cut off, and is timed
until it decodes its first row.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from specbatch.api import load_spec
from specbatch.engine.request import Completion, Request
from specbatch.engine.stats import EngineStats
from specbatch.results.shard.shard import ShardResults
from specbatch.runner import engine_set
from specbatch.runner.engine_set import EngineSet
from specbatch.runner.job import run_job

SPEC = """\
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata: {{name: rows}}
spec:
  target: {{model: "embedded:target"}}
  placement: {{gpus: 0}}
  decoding: {{maxNewTokens: 8}}
  batching: {{maxSequences: 64, maxLength: 256}}
  dataset: {{uri: "{folder}/rows.jsonl"}}
  results: {{dir: "{folder}/results", report: false, partSize: 64Mi}}
"""
WORDS = [
    "pear",
    "apple",
    "fig",
    "plum",
    "grape",
    "sort",
    "these",
    "count",
    "letters",
    "of",
    "the",
    "next",
    "number",
    "is",
    "after",
    "before",
]


def write_dataset(folder: Path, rows: int) -> None:
    """Rows of about 90 bytes, with ids."""
    chance = random.Random(0)
    with (folder / "rows.jsonl").open("w") as file:
        for index in range(rows):
            row = {"id": f"row-{index}", "prompt": " ".join(chance.choices(WORDS, k=8))}
            file.write(json.dumps(row) + "\n")


def attempt(folder: Path) -> None:
    """One process: runs the job with the instant engine, and prints what it took as a line of JSON."""
    seconds: dict[str, float] = {}

    class InstantEngine:
        stats = EngineStats()

        def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
            for request in requests:
                seconds.setdefault("first_row", time.monotonic() - began)
                yield Completion(request=request, token_ids=request.prompt_token_ids[:8], finish_reason="length")

    opened = ShardResults.open

    def timed_open(*arguments: Any, **options: Any) -> ShardResults:
        start = time.monotonic()
        store = opened(*arguments, **options)
        seconds["scan"] = time.monotonic() - start
        return store

    ShardResults.open = timed_open  # type: ignore[method-assign]  # a clock around it
    engine_set.load_engines = lambda *_: [InstantEngine()]  # type: ignore[assignment,list-item]  # it loads nothing
    engine_set.native_set = lambda engines, _: EngineSet(engines, "instant", frozenset(), torch.float32, {})
    job = load_spec(str(folder / "spec.yaml"), ())
    began = time.monotonic()
    summary = run_job(job)
    seconds["run"] = time.monotonic() - began
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    said = {"written": summary.results, "skipped": summary.skipped, "peak_mib": int(peak.split()[1]) >> 10}
    print(json.dumps({**said, **{name: round(value, 2) for name, value in seconds.items()}}))


def run_attempt(title: str, folder: Path) -> None:
    """Starts the process and shows its line."""
    command = [sys.executable, "-m", "benchmarks.rows", "--attempt", str(folder)]
    done = subprocess.run(  # noqa: S603 - this very script
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    print(f"{title:<34}{done.stdout.strip()}", flush=True)


def main() -> None:
    """The three processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--attempt", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attempt:
        attempt(arguments.attempt)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        write_dataset(folder, arguments.rows)
        (folder / "spec.yaml").write_text(SPEC.format(folder=folder))
        run_attempt("all rows, an engine without cost", folder)
        run_attempt("again: every row is finished", folder)
        newest = max((folder / "results" / "rows").glob("part-*"), key=lambda path: path.stat().st_mtime)
        newest.write_bytes(newest.read_bytes()[:-1000])
        run_attempt("again: a few rows are not", folder)


if __name__ == "__main__":
    main()
