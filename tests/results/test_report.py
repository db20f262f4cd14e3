import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from specbatch.errors import ResultsError
from specbatch.results import charts, series
from specbatch.results.facts import gather
from specbatch.results.report import write_report
from specbatch.results.rows import ErrorCode
from specbatch.results.shard import ShardResults
from specbatch.results.summary import RunSummary
from specbatch.results.timeline import Sample, Timeline
from tests.results.builders import IDENTITY, finish_run, make_error, make_row, make_summary

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that tags balance, and collects tags, figures and text."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.open, self.tags, self.ids, self.text = [], [], [], ""
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "figure":
            self.ids.append(dict(attributes)["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def normal_rows(count=60):
    return [
        make_row(index, prompt=f"What is {index} + 0?", answer=str(index), correct=index % 7 != 0)
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("results") / "nightly"
    finish_run(
        run_dir,
        [*normal_rows(), make_row(500, finish_reason="length")],
        [make_error(900 + index) for index in range(5)] + [make_error(950, code=ErrorCode.EMPTY_PROMPT, line=None)],
        spec={"decoding": {"maxNewTokens": 128}},
        versions={"torch": "2.13.0"},
        placement_tree="target\n└── cpu  layers 0-15",
        env={"TARGET_GPU": "cpu"},
    )
    write_report(run_dir)
    return run_dir


def test_a_normal_run_has_every_figure_and_section(normal):
    page = Page(normal / "report.html")
    assert page.ids == [
        "throughput", "acceptance_by_position", "accepted_lengths", "k_over_time",
        "time_split", "lengths", "finish_reasons", "errors_by_code",
    ]  # fmt: skip
    for said in (
        "complete", "nightly", "embedded:target@1", "Wrong answers", "Sample rows", "What is 7 + 0?", "wrong, expected: 7",
        "row-900 (line 901): expected a comma", "row-950: expected a comma", "└── cpu  layers 0-15", "maxNewTokens: 128",
        "torch: 2.13.0", "TARGET_GPU: cpu", "85.0%", "51 of 60", "of the predicted ceiling", "64.6%",
    ):  # fmt: skip
        assert said in page.text, said
    for stem in page.ids:
        assert (normal / "figures" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_one_file_without_scripts_or_anything_from_elsewhere(normal):
    page = Page(normal / "report.html")
    source = page.source
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)|url\((?!#)|@import""", source)


def test_figures_follow_the_page_s_colours_and_width(normal):
    source = (normal / "report.html").read_text()
    figures = re.findall(r"<svg.*?</svg>", source, re.DOTALL)
    assert len(figures) == 8
    style = source[: source.index("</style>")]
    for figure in figures:
        ET.fromstring(figure)
        assert figure.startswith('<svg role="img" aria-label="')
        assert set(re.findall(r"#[0-9a-f]{6}\b", figure)) <= {"#000000"}
        assert set(re.findall(r"var\((--\w+)\)", figure)) <= set(re.findall(r"--\w+", style))
        assert "DejaVu" not in figure
        assert not re.search(r"<svg[^>]* (width|height)=", figure)


def test_the_same_run_gives_the_same_report(normal):
    first = (normal / "report.html").read_bytes()
    assert write_report(normal).read_bytes() == first


def test_an_empty_run_has_a_report_that_says_so(run_dir):
    finish_run(run_dir, summary=RunSummary(), timeline=Timeline())
    page = Page(write_report(run_dir))
    assert page.ids == []
    assert "No row has been decoded yet" in page.text
    assert not (run_dir / "figures").exists()


def test_a_run_of_nothing_but_errors_has_a_report(run_dir):
    finish_run(run_dir, errors=[make_error(index) for index in range(5)], summary=RunSummary(), timeline=Timeline())
    page = Page(write_report(run_dir))
    assert page.ids == ["errors_by_code"]
    assert page.text.count("(line ") == 3
    assert "Sample rows" not in page.text


def test_a_run_without_a_drafter_has_no_figures_of_speculation(run_dir):
    alone = RunSummary(completion_tokens=600, seconds=2.0, rounds=60, row_rounds=240, phase_seconds={"verify": 2.0})
    finish_run(run_dir, [make_row(0)], summary=alone)
    page = Page(write_report(run_dir))
    assert page.ids == ["throughput", "time_split", "lengths", "finish_reasons"]
    assert "acceptance rate" not in page.text


def test_a_run_under_way_has_a_report_from_its_progress_and_whole_lines(run_dir):
    with ShardResults.open(run_dir, identity=IDENTITY) as store:
        store.write(make_row(0))
        store.write_error(make_error(1))
        store.save_progress(make_summary(store), Timeline())
        for name in ("part-00000-of-00001.jsonl", "errors-00000-of-00001.jsonl"):
            with (run_dir / name).open("ab") as file:
                file.write(b'{"id": "torn')
        page = Page(write_report(run_dir))
    assert "not complete: running" in page.text
    assert "2 lines could not be read" in page.text
    assert "maxNewTokens: 128" in page.text
    assert "Files" not in page.text


def test_a_run_that_was_stopped_says_not_complete(run_dir):
    finish_run(run_dir, [make_row(0)], complete=False, summary=RunSummary(), timeline=Timeline())
    assert "not complete" in Page(write_report(run_dir)).text


def test_what_users_wrote_is_shown_as_text_and_never_as_html(run_dir):
    evil = "</pre></td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\ud800 $x^2$ \x00"
    finish_run(
        run_dir,
        [make_row(0, id=evil, prompt=[{"role": evil}], text=evil, answer=evil, correct=False, finish_reason=evil)],
        [make_error(1, id=evil, message=evil)],
        spec={evil: evil},
        versions={evil: evil},
        placement_tree=evil,
        env={evil: evil},
        summary=RunSummary(seconds=1.0, phase_seconds={evil: 1.0}),
        timeline=Timeline(),
    )
    page = Page(write_report(run_dir))
    assert not {"script", "img"} & set(page.tags)
    assert "<script>" not in page.source
    assert "<script>alert(1)</script>" in page.text


def test_long_text_is_cut_with_its_length(run_dir):
    finish_run(run_dir, [make_row(0, text="word " * 4000)], summary=RunSummary(), timeline=Timeline())
    path = write_report(run_dir)
    assert "(20,000 characters)" in Page(path).text
    assert path.stat().st_size < 200_000


def test_samples_are_bounded_and_spread_over_the_run(run_dir):
    finish_run(run_dir, normal_rows(1000), [make_error(2000 + index) for index in range(50)])
    facts = gather(run_dir)
    assert len(facts.samples) == 10
    assert max(row.index for row in facts.samples) > 500
    assert len(facts.wrong) == 5
    assert [len(rows) for rows in facts.errors.values()] == [3]
    assert facts.totals.results == 1000


def test_shards_are_told_as_one_run(run_dir):
    for shard in (0, 1):
        with ShardResults.open(run_dir, shard=shard, shards=2, identity=IDENTITY) as store:
            for index in range(10):
                store.write(make_row(10 * shard + index))
            timeline = Timeline()
            timeline.extend(Sample(t=t, rows=t, completion_tokens=100 * t, k=2) for t in range(10 + shard))
            store.save_progress(make_summary(store), timeline, "done")
    facts = gather(run_dir)
    assert facts.totals.results == 20
    assert facts.summary.predicted_tokens_per_second == 1800.0
    page = Page(write_report(run_dir))
    assert "2 shards" in page.text
    assert "throughput" in page.ids


def test_a_directory_without_a_run_is_an_error(tmp_path):
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ResultsError, match="no run is there"):
            write_report(directory)


def test_rows_that_cannot_be_read_are_an_error(run_dir):
    finish_run(run_dir)
    (run_dir / "part-00000-of-00001.jsonl").unlink()
    (run_dir / "part-00000-of-00001.jsonl").mkdir()
    with pytest.raises(ResultsError, match="cannot read the rows"):
        write_report(run_dir)


def test_without_matplotlib_the_error_names_what_to_install(normal, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ResultsError, match=r"matplotlib, which is not installed[\s\S]*pip install 'specbatch\[runner\]'"
    ):
        write_report(normal)


def test_importing_the_results_imports_neither_matplotlib_nor_torch():
    code = """
import sys
for name in ("torch", "transformers", "matplotlib", "numpy"):
    sys.modules[name] = None
import specbatch.results.report, specbatch.results.shard
assert not any(name.startswith(("specbatch.engine", "specbatch.runner")) for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_accepted_lengths_follow_from_the_positions(normal):
    # 240 row rounds; 210, 170, 130 and 110 of them kept at least 1, 2, 3 and 4.
    assert charts.accepted_length_counts(gather(normal)) == [30, 40, 40, 20, 110]


def test_rates_add_up_over_shards_and_follow_each_other_over_attempts():
    line = [Sample(t=t, rows=0, completion_tokens=50 * t) for t in range(11)]
    assert [rate for _, rate in series.rates([line])] == pytest.approx([50.0] * 10)
    assert [rate for _, rate in series.rates([line, line[:6]])] == pytest.approx([100.0] * 5 + [50.0] * 5)
    assert series.rates([]) == series.rates([line[:1]]) == []
    still = [Sample(t=0, rows=0, completion_tokens=0)] * 2
    assert series.rates([still]) == []


def test_the_median_is_a_length_that_occurs():
    assert series.median({3: 1, 5: 1, 90: 1}) == 5
    assert series.binned({0: 2, 4: 1, 5: 3, 9: 1}, 5, 2) == [3, 4]
