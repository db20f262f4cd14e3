"""status, report and compare of a run that was published to a real S3 server."""

import shutil

import pytest

from specbatch.cli.main import main
from tests.results.builders import finish_run, make_error, make_row

pytestmark = pytest.mark.slow


@pytest.fixture
def published(s3, run_dir):
    """A run on this machine, and the URI of the same in the bucket; one file is larger than what is read at a time."""
    rows = [make_row(index, text="The answer is long. " * 200) for index in range(2500)]
    finish_run(run_dir, rows, [make_error(2500)])
    shutil.copytree(run_dir, s3.bucket() / "runs" / "nightly")
    assert (run_dir / "part-00000-of-00001.jsonl").stat().st_size > 8 << 20
    return "s3://bucket/runs/nightly"


def test_a_published_run_is_seen_as_the_one_on_the_disk(published, run_dir, tmp_path, capsys):
    assert main(["status", published]) == 0
    assert "complete (updated" in capsys.readouterr().out
    assert main(["report", published, "-o", str(tmp_path / "there")]) == 0
    assert main(["report", str(run_dir), "-o", str(tmp_path / "here")]) == 0
    here, there = ((tmp_path / place / "report.html").read_text() for place in ("here", "there"))
    assert there == here.replace(str(run_dir), published)
    capsys.readouterr()
    assert main(["compare", str(run_dir), published]) == 0
    assert "all 2,500" in capsys.readouterr().out


def test_a_server_that_is_gone_is_74_with_a_remedy(published, s3, capsys):
    s3.kill()
    for command in ("status", "report", "compare"):
        assert main([command, published]) == 74
        assert "remedy" in capsys.readouterr().err


def test_no_such_run_is_74(s3, capsys):
    s3.bucket()
    for command in ("status", "report", "compare"):
        assert main([command, "s3://bucket/runs/none"]) == 74
        assert "no run is there" in capsys.readouterr().err
