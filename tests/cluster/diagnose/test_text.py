from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.text import render_verdict, verdict_json
from specbatch.cluster.diagnose.why import Verdict
from specbatch.cluster.jobs.job_view import JobView
from tests.cluster.diagnose.objects import CLOCK, JOB, at, job

VIEW = JobView(job(completions=4))

FINDING = Finding(
    cause="not-enough-gpus",
    sentence="each pod asks for 16 nvidia.com/gpu, and no node has more than 8",
    remedy="set spec.placement.gpus to 8 or less " * 4,
    evidence=("node a: 8 nvidia.com/gpu", "pod x: " + "0/3 nodes are available: " * 40),
    since=at(180),
    shards=(0, 2, 3),
)
OTHER = Finding(cause="running", sentence="nothing is wrong", remedy="-", shards=(1,), severity="ok")


def test_the_sentence_comes_first_then_the_remedy_on_a_line_of_its_own_and_the_rest_in_100_columns():
    verdict = Verdict(
        finding=FINDING, view=VIEW, others=[OTHER], not_looked_at=["nodes", "the pods of other namespaces"]
    )
    lines = render_verdict(verdict, CLOCK).splitlines()
    assert lines[0] == "Each pod asks for 16 nvidia.com/gpu, and no node has more than 8"
    assert lines[1] == f"remedy: {FINDING.remedy}"
    assert max(map(len, lines[2:])) <= 100
    assert "shards: 0,2-3 (3 of 4)" in lines
    assert "since: 3 min ago" in lines
    assert "cause: not-enough-gpus" in lines
    assert "  - running: nothing is wrong (shards 1 (1 of 4))" in lines
    assert lines[-1].endswith("nodes, the pods of other namespaces")


def test_json_has_the_whole_verdict():
    value = verdict_json(Verdict(finding=FINDING, view=VIEW, others=[OTHER]))
    assert list(value) == [
        "cause",
        "sentence",
        "remedy",
        "severity",
        "shards",
        "since",
        "evidence",
        "others",
        "not_looked_at",
        "run",
        "job",
        "namespace",
    ]
    assert (value["shards"], value["others"][0]["cause"]) == ((0, 2, 3), "running")
    assert (value["run"], value["job"], value["namespace"]) == ("nightly", JOB, "ml")
    assert (value["severity"], value["others"][0]["severity"]) == ("error", "ok")
