"""Runs for collect, written by hand: any rows in any files."""

import hashlib
import json
import random

from specbatch.results.layout import ShardFile
from specbatch.results.manifest import FileEntry, Manifest, write_manifest, write_success
from specbatch.results.rows import ErrorRow
from specbatch.results.totals import Totals
from specbatch.results.wire import encode_error, encode_result
from tests.results.builders import IDENTITY, make_error, make_row


def write_rows(run_dir, file, rows):
    """A file of rows, without a manifest."""
    run_dir.mkdir(parents=True, exist_ok=True)
    data = b"".join(encode_error(row) if isinstance(row, ErrorRow) else encode_result(row) for row in rows)
    (run_dir / file.name).write_bytes(data)
    return FileEntry(name=file.name, rows=len(rows), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_shard(run_dir, parts=(), errors=(), *, shard=0, shards=1, **manifest):
    """A shard: its parts and errors files, each a list of rows, and its manifest."""
    totals = Totals()
    for row in [row for rows in parts for row in rows]:
        totals.add_result(row)
    for row in [row for rows in errors for row in rows]:
        totals.add_error(row)
    entries = [
        write_rows(run_dir, ShardFile(kind, shard, shards, sequence), rows)
        for kind, files in (("part", parts), ("errors", errors))
        for sequence, rows in enumerate(files)
    ]
    fields = {"name": run_dir.name, "complete": True, "identity": IDENTITY, **manifest}
    made = Manifest(shard=shard, shards=shards, files=entries, totals=totals, **fields)
    write_manifest(run_dir, made)
    return made


def write_run(run_dir, rows, *, shards=1, parts=1, errors=(), seed=0, **manifest):
    """A whole run of `rows` rows in shuffled order; `errors` are the indices of error rows."""
    order = random.Random(seed)
    for shard in range(shards):
        mine = list(range(shard, rows, shards))
        order.shuffle(mine)
        good = [make_row(index) for index in mine if index not in errors]
        per_part = -(-len(good) // parts) or 1
        write_shard(
            run_dir,
            [good[begin : begin + per_part] for begin in range(0, len(good), per_part)] or [[]],
            [[make_error(index) for index in mine if index in errors]],
            shard=shard,
            shards=shards,
            **{"dataset_rows": rows, **manifest},
        )
    write_success(run_dir)


def change_manifest(run_dir, change, shard=0, shards=1):
    """Rewrites a manifest as `change(its JSON)` leaves it."""
    path = run_dir / ShardFile("manifest", shard, shards).name
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


def indices(path):
    return [json.loads(line)["index"] for line in path.read_bytes().splitlines()]
