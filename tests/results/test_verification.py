"""The certificate: counted, said, kept."""

import json

import pytest

from specbatch.errors import ResultsError
from specbatch.results.manifest import read_manifests
from specbatch.results.storage.typed import as_type
from specbatch.results.verification import Divergence, Verification, render_verification, write_verification
from tests.results.builders import finish_run, make_row

UNEXPLAINED = Divergence(
    id="row-7", index=7, kind="unexplained", position=3, recorded="X", target="a", margin=4.25, bound=1e-4,
    excerpt="...The name is Matild|X.",
)  # fmt: skip
TIE = Divergence(
    id="row-9", index=9, kind="tie", position=0, recorded="b", target="a", margin=5e-5, bound=1e-4, excerpt="|b"
)
FOUND = Verification(
    finished=1200,
    sampled=100,
    seed=4,
    exact=92,
    ties=1,
    unexplained=1,
    not_replayable=4,
    changed=2,
    divergences=(UNEXPLAINED, TIE),
    changed_rows=("row-1: its prompt or decoding has changed", "row-2: row 2 is not there any more"),
    target="embedded:target@1",
    dtype="float32",
    scores="float32",
    tie_bound="at least 0.0001",
    target_only_tokens_per_second=431.25,
    target_only_rows=94,
    target_only_tokens=5000,
    target_only_seconds=11.6,
    max_sequences=8,
    device="cpu",
)


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ({"finished": 0, "sampled": 0}, "nothing to verify: the run has no finished rows"),
        ({"sampled": 3, "not_replayable": 3}, "nothing was verified: no sampled row could be replayed"),
        ({"sampled": 3, "exact": 3}, "exactly what the target alone gives: every one of 3 rows"),
        ({"sampled": 3, "exact": 2, "ties": 1}, "what the target alone gives: every one of 3 rows, 1 of them up to near ties"),
        ({"sampled": 3, "ties": 2, "unexplained": 1}, "NOT what the target alone gives: 1 of 3 rows cannot be explained"),
    ],
)  # fmt: skip
def test_the_verdict_says_what_was_found(counts, verdict):
    found = Verification(**{"finished": 10, "seed": 0} | counts)
    assert found.verdict == verdict
    assert found.to_json()["verdict"] == verdict


def test_the_certificate_reads_well():
    assert render_verification(FOUND, name="nightly") == (
        "nightly\n"
        "  sample           100 of 1,200 finished rows (seed 4)\n"
        "  rows             92 exact, 1 tie, 1 unexplained\n"
        "  not replayable   4: drawn under acceptanceRule: rejection, where the text depends on the rounds\n"
        "  dataset changed  2 rows, not compared: row-1: its prompt or decoding has changed; row-2: row 2 is not there any more\n"
        "  target alone     431.2 tokens/s, measured on 94 rows, 5,000 tokens, 8 at once\n"
        "  margins          scores in float32, of a run in float32; a tie: at least 0.0001\n"
        "  verdict          NOT what the target alone gives: 1 of 94 rows cannot be explained\n"
        "  unexplained\n"
        "    row-7 (index 7), token 3: recorded 'X', the target takes 'a', margin 4.25 where 0.0001 would be a tie\n"
        "      '...The name is Matild|X.'"
    )


def test_the_manifest_keeps_it_and_gives_it_back(tmp_path):
    run_dir = tmp_path / "nightly"
    before = finish_run(run_dir, [make_row(index) for index in range(3)])
    assert write_verification(run_dir, FOUND) == ["manifest-00000-of-00001.json"]
    manifest = read_manifests(run_dir)[0]
    assert as_type(manifest.verification, Verification) == FOUND
    assert (manifest.files, manifest.totals, manifest.spec) == (before.files, before.totals, before.spec)


def test_a_certificate_of_an_earlier_release_is_read(tmp_path):
    value = json.loads(json.dumps(FOUND.to_json()))
    del value["tie_bound"]
    assert as_type(value, Verification).tie_bound == ""


def test_a_manifest_that_is_none_is_refused(tmp_path):
    (tmp_path / "manifest-00000-of-00001.json").write_text("{")
    with pytest.raises(ResultsError, match="not a manifest"):
        write_verification(tmp_path, FOUND)
    (tmp_path / "manifest-00000-of-00001.json").unlink()
    (tmp_path / "manifest-00000-of-00001.json").mkdir()
    with pytest.raises(ResultsError, match="cannot read the manifest"):
        write_verification(tmp_path, FOUND)
