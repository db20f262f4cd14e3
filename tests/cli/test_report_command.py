import pytest

from specbatch.cli.main import main
from tests.results.builders import finish_run, make_row


@pytest.mark.slow
def test_report_says_where_the_page_is(tmp_path, capsys):
    run_dir = tmp_path / "nightly"
    finish_run(run_dir, [make_row(0)])
    assert main(["report", str(run_dir)]) == 0
    assert capsys.readouterr().out == f"{run_dir / 'report.html'}\n"
    assert main(["report", str(run_dir), "-o", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere" / "report.html").read_bytes() == (run_dir / "report.html").read_bytes()


def test_no_run_is_74(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 74
    assert "no run is there" in capsys.readouterr().err
