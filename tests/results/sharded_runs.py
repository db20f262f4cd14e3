"""Runs of several shards, decoded with a chance, and what is collected of them."""

import json
import random

from specbatch.results.collect.collect import collect
from specbatch.results.manifest import Manifest, write_manifest, write_success
from specbatch.results.protocol import Progress
from specbatch.results.shard.shard import ShardResults
from specbatch.results.timeline import Timeline
from tests.results.builders import IDENTITY, make_error, make_row, make_summary

ROWS = 61
BAD = {4, 5, 60}


def open_shard(run_dir, shard, shards, **options):
    return ShardResults.open(run_dir, shard=shard, shards=shards, identity=IDENTITY, **options)


def run_shard(run_dir, shard, shards, chance=1.0, chosen=random, **options):
    """An attempt that decodes each of its rows with a chance; gives the rows that it decoded."""
    decoded = []
    with open_shard(run_dir, shard, shards, **options) as store:
        left = [
            index for index in range(shard, ROWS, shards) if not store.finished(f"row-{index}", f"{index:016x}", index)
        ]
        for index in chosen.sample(left, len(left)):
            if chosen.random() < chance:
                store.write_error(make_error(index)) if index in BAD else store.write(make_row(index))
                decoded.append(index)
        store.save_progress(
            make_summary(store), Timeline(), "done", Progress(total_rows=len(range(shard, ROWS, shards)))
        )
    manifest = Manifest(
        name=run_dir.name,
        shard=shard,
        shards=shards,
        complete=len(decoded) == len(left),
        identity=IDENTITY,
        files=store.files,
        totals=store.totals,
        attempts=store.attempts,
        dataset_rows=ROWS,
    )
    write_manifest(run_dir, manifest)
    write_success(run_dir)
    return decoded


def run_all(run_dir, shards, chance=1.0, chosen=random):
    return [index for shard in range(shards) for index in run_shard(run_dir, shard, shards, chance, chosen)]


def rows_in(run_dir):
    return sorted(
        json.loads(line)["index"] for path in run_dir.glob("*-of-*.jsonl") for line in path.read_bytes().splitlines()
    )


def collected(source, folder):
    """The rows and errors of a complete run, each once."""
    folder.mkdir(exist_ok=True)
    found = collect(source, folder / "rows.jsonl", errors=folder / "errors.jsonl")
    assert found.complete, found.unfinished
    assert found.duplicates == 0
    return (folder / "rows.jsonl").read_bytes(), (folder / "errors.jsonl").read_bytes()
