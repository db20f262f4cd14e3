import json

from specbatch.results.identity import Identity
from specbatch.results.manifest import Manifest, write_manifest, write_success
from specbatch.results.rows import ErrorCode, ErrorRow, ResultRow, Speculation, Usage
from specbatch.results.shard.shard import ShardResults
from specbatch.results.summary import RunSummary
from specbatch.results.timeline import Sample, Timeline

IDENTITY = Identity(
    spec_hash="a" * 64,
    dataset="sha256:1234",
    models={"target": "embedded:target@1", "drafter": "embedded:drafter@1"},
    spec={"decoding": {"maxNewTokens": 128, "temperature": 0.0}, "dataset": {"uri": "prompts.jsonl"}},
)


def make_row(index, **changes):
    fields = {
        "id": f"row-{index}",
        "index": index,
        "fingerprint": f"{index:016x}",
        "text": f"The answer is {index}.",
        "finish_reason": "stop",
        "usage": Usage(prompt_tokens=20 + index % 30, completion_tokens=10 + index % 50),
        "speculation": Speculation(rounds=4, drafted=16, accepted=11),
    }
    return ResultRow(**{**fields, **changes})


def make_error(index, **changes):
    fields = {
        "id": f"row-{index}",
        "index": index,
        "fingerprint": f"{index:016x}",
        "code": ErrorCode.INVALID_JSON,
        "message": "expected a comma at column 12",
        "line": index + 1,
    }
    return ErrorRow(**{**fields, **changes})


def make_summary(store, **changes):
    rows = store.written
    fields = {
        "results": rows.results,
        "errors": rows.errors,
        "skipped": store.found.rows,
        "seconds": 12.5,
        "load_seconds": 1.5,
        "warmup_seconds": 0.8,
        "prompt_tokens": rows.prompt_tokens,
        "completion_tokens": rows.completion_tokens,
        "rounds": 60,
        "row_rounds": 240,
        "drafted": 960,
        "accepted": 620,
        "drafted_by_position": (240, 240, 240, 240),
        "accepted_by_position": (210, 170, 130, 110),
        "k_changes": ((0, 4), (20, 3), (41, 4)),
        "phase_seconds": {"prefill": 1.0, "draft": 3.0, "verify": 6.0, "accept": 0.8, "host": 0.7, "idle": 0.01},
        "max_sequences": 8,
        "row_latency": {"0": 5, "3": 20, "7": 30, "12": 4, "20": 1},
        "predicted_tokens_per_second": 900.0,
        "target_only_tokens_per_second": 300.0,
        "totals": store.totals,
        "ended": store.ended,
    }
    return RunSummary(**{**fields, **changes})


def make_timeline(count=40):
    timeline = Timeline()
    for step in range(count):
        timeline.add(
            Sample(
                t=round(step * 0.3, 3),
                rows=step * 4,
                completion_tokens=step * step // 2 + step * 100,
                drafted=step * 24,
                accepted=step * 15,
                k=4 if step % 20 < 14 else 3,
                active=8 if step < count - 3 else 3,
                gpu_mib=(61_000 + 40 * step, 58_000),
            )
        )
    return timeline


def finish_run(
    run_dir, rows=(), errors=(), *, complete=True, summary=None, timeline=None, identity=IDENTITY, **manifest
):
    """Writes a whole run: rows, errors, progress, manifest, _SUCCESS."""
    with ShardResults.open(run_dir, identity=identity) as store:
        for row in rows:
            store.write(row)
        for row in errors:
            store.write_error(row)
        store.save_progress(summary or make_summary(store), timeline or make_timeline(), "done")
    made = Manifest(
        name=run_dir.name,
        shard=0,
        shards=1,
        complete=complete,
        identity=identity,
        files=store.files,
        totals=store.totals,
        attempts=store.attempts,
        skipped=store.found.rows,
        **manifest,
    )
    write_manifest(run_dir, made)
    write_success(run_dir)
    return made


def read_lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]
