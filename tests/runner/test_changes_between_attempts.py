"""What of a spec may change between two attempts at a run, and what is refused by name."""

import json

import pytest

from specbatch.errors import ResultsError, SplitError
from specbatch.results.collect.collect import collect
from specbatch.results.collect.reshard import reshard
from specbatch.results.manifest import read_manifests
from specbatch.results.report.facts import gather
from specbatch.results.storage.folder import Folder
from specbatch.runner.job import run_job
from specbatch.runner.verify.verify import verify_run
from tests.runner.tiny import read_lines

ROWS = [
    *({"id": f"r{number}", "prompt": f"hello {number}", "temperature": number % 2} for number in range(14)),
    b"broken",
    {"id": "r3", "prompt": "a duplicate, which another shard has"},
]


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "tiny"


def shard(job, index):
    return run_job(job, env={"JOB_COMPLETION_INDEX": str(index)})


def texts(run_dir, out):
    found = collect(run_dir, out, errors=out.with_suffix(".errors"))
    assert found.complete, found.unfinished
    lines = [json.loads(line) for path in (out, out.with_suffix(".errors")) for line in path.read_bytes().splitlines()]
    return [(line["index"], line["id"], line.get("text"), line.get("code")) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("publish", [False, True])
def test_a_resharded_run_gives_what_an_unsplit_run_gives(make_job, results, tmp_path, publish):
    more = [f"results.publish=file://{tmp_path}/bucket/"] if publish else []
    job = make_job(ROWS, "job.completions=3", *more)
    for index in (2, 0):
        shard(job, index)
    job = make_job(ROWS, "job.completions=2", *more)
    with pytest.raises(SplitError, match="split into 3 shards, and this process is one of 2"):
        shard(job, 0)
    reshard(results, 2)
    if publish:
        with pytest.raises(SplitError, match=f"reshard {tmp_path}/bucket/tiny --completions 2"):
            shard(job, 0)
        reshard(f"file://{tmp_path}/bucket/tiny", 2)
    summaries = [shard(job, index) for index in (0, 1)]
    assert sum(summary.results + summary.errors for summary in summaries) == len(range(1, len(ROWS), 3))
    assert (results / "_SUCCESS").exists()
    assert len(read_lines(results)) == 14
    run_job(make_job(ROWS, f"results.dir={tmp_path}/unsplit"))
    whole = texts(tmp_path / "unsplit" / "tiny", tmp_path / "unsplit.jsonl")
    assert texts(results, tmp_path / "mixed.jsonl") == whole
    if publish:
        assert texts(tmp_path / "bucket" / "tiny", tmp_path / "published.jsonl") == whole


@pytest.mark.slow
def test_a_resharded_run_is_verified_and_reported_as_one(make_job, results):
    job = make_job(ROWS, "job.completions=3")
    shard(job, 0)
    reshard(results, 1)
    run_job(make_job(ROWS, "job.completions=1", "results.report=true"))
    found = verify_run(results)
    assert (found.sampled, found.unexplained, found.exact + found.ties) == (14, 0, 14)
    assert [one.verification["verdict"] for one in read_manifests(results)] == [found.verdict]
    facts = gather(Folder(results))
    assert facts.totals.rows == len(ROWS)
    assert facts.verification.verdict == found.verdict
    assert (results / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("decoding.numSpeculativeTokens=3", "decoding.numSpeculativeTokens: 2 -> 3"),
        ("decoding.seed=5", "decoding.seed: 0 -> 5"),
    ],
)
def test_a_change_that_is_another_run_is_refused_with_the_field_that_changed(make_job, change, said):
    run_job(make_job(ROWS))
    with pytest.raises(ResultsError, match="belong to another run") as refused:
        run_job(make_job(ROWS, change))
    assert said in str(refused.value)


@pytest.mark.slow
def test_another_drafter_is_refused_by_name(make_job):
    run_job(make_job(ROWS))
    with pytest.raises(ResultsError) as refused:
        run_job(make_job(ROWS, "drafter=null", "decoding.numSpeculativeTokens=0"))
    assert "drafter as loaded: " in str(refused.value)
    assert "decoding.numSpeculativeTokens: 2 -> 0" in str(refused.value)
