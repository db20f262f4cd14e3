import errno
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import fsspec
import pytest

from specbatch.errors import ResultsError
from specbatch.results.attempts import read_attempts
from specbatch.results.hardware import Hardware
from specbatch.results.manifest import Manifest, write_manifest
from specbatch.results.protocol import Progress, PublishState
from specbatch.results.report import charts, series
from specbatch.results.report.facts import gather
from specbatch.results.report.report import write_report
from specbatch.results.rows import ErrorCode
from specbatch.results.shard.parts import PartPolicy
from specbatch.results.shard.shard import ShardResults
from specbatch.results.storage.folder import Folder
from specbatch.results.summary import RunSummary
from specbatch.results.timeline import Sample, Timeline
from specbatch.results.verification import Divergence, Verification
from tests.results.builders import IDENTITY, finish_run, make_error, make_row, make_summary, make_timeline

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that tags balance, and collects tags, figures and text."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.open, self.tags, self.ids, self.text, self.parts = [], [], [], "", []
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
        self.parts += data.split()

    @property
    def words(self):
        return " ".join(self.parts)


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


@pytest.mark.slow
def test_a_normal_run_has_every_figure_and_section(normal):
    page = Page(normal / "report.html")
    assert page.ids == [
        "throughput", "k_over_time", "row_latency", "acceptance_by_position", "accepted_lengths",
        "lengths", "time_split", "gpu_memory", "finish_reasons", "errors_by_code",
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


def test_a_browser_is_told_that_the_page_needs_nothing_from_anywhere(normal):
    head = Page(normal / "report.html").source.partition("</head>")[0]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in head
    assert head.index("Content-Security-Policy") < head.index("<style>")


def test_figures_follow_the_page_s_colours_and_width(normal):
    source = (normal / "report.html").read_text()
    figures = re.findall(r"<svg.*?</svg>", source, re.DOTALL)
    assert len(figures) == 10
    style = source[: source.index("</style>")]
    for figure in figures:
        ET.fromstring(figure)
        assert figure.startswith('<svg role="img" aria-label="')
        assert set(re.findall(r"#[0-9a-f]{6}\b", figure)) <= {"#000000"}
        assert set(re.findall(r"var\((--\w+)\)", figure)) <= set(re.findall(r"--\w+", style))
        assert "DejaVu" not in figure
        assert not re.search(r"<svg[^>]* (width|height)=", figure)


@pytest.mark.slow
def test_the_same_run_gives_the_same_report(normal):
    first = (normal / "report.html").read_bytes()
    assert write_report(normal).read_bytes() == first


def test_an_empty_run_has_a_report_that_says_so(run_dir):
    finish_run(run_dir, summary=RunSummary(), timeline=Timeline())
    page = Page(write_report(run_dir))
    assert page.ids == []
    assert page.text.count("—") == 3  # speed, acceptance and verification, each with its reason
    assert "No row has been decoded yet" in page.text
    assert not (run_dir / "figures").exists()


def test_a_run_of_nothing_but_errors_has_a_report(run_dir):
    finish_run(run_dir, errors=[make_error(index) for index in range(5)], summary=RunSummary(), timeline=Timeline())
    page = Page(write_report(run_dir))
    assert page.ids == ["errors_by_code"]
    assert page.text.count("(line ") == 3
    assert "Sample rows" not in page.text


@pytest.mark.slow
def test_a_run_without_a_drafter_has_no_figures_of_speculation(run_dir):
    alone = RunSummary(completion_tokens=600, seconds=2.0, rounds=60, row_rounds=240, phase_seconds={"verify": 2.0})
    finish_run(run_dir, [make_row(0)], summary=alone)
    page = Page(write_report(run_dir))
    assert page.ids == ["throughput", "lengths", "time_split", "gpu_memory", "finish_reasons"]
    assert "mean acceptance length" not in page.text
    assert "k over time: nothing was drafted." in page.text


@pytest.mark.slow
def test_a_run_under_way_has_a_report_from_its_progress_and_whole_lines(run_dir):
    with ShardResults.open(run_dir, identity=IDENTITY) as store:
        store.write(make_row(0))
        store.write_error(make_error(1))
        store.save_progress(make_summary(store), Timeline())
        for name in ("part-00000-of-00001.jsonl", "errors-00000-of-00001.jsonl"):
            with (run_dir / name).open("ab") as file:
                file.write(b'{"id": "torn')
        page = Page(write_report(run_dir))
    assert "still running: as of now" in page.text
    assert "could not be read" not in page.text  # the last line is being written just now
    assert "Not recorded yet" in page.text
    assert "maxNewTokens: 128" in page.text
    assert "Files" not in page.text


@pytest.mark.slow
def test_a_run_that_was_stopped_says_not_complete(run_dir):
    finish_run(run_dir, [make_row(0)], complete=False, summary=RunSummary(), timeline=Timeline())
    assert "not complete" in Page(write_report(run_dir)).text


@pytest.mark.slow
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
        hardware=Hardware(gpus={evil: 1}, cpu=evil),
        warnings=[evil],
        summary=RunSummary(seconds=1.0, phase_seconds={evil: 1.0}),
        timeline=Timeline(),
    )
    page = Page(write_report(run_dir))
    assert not {"script", "img"} & set(page.tags)
    assert "<script>" not in page.source
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.slow
def test_what_users_wrote_is_never_a_template(run_dir):
    finish_run(run_dir, [make_row(0, text="{{ 7 * 7 }}{% raw %}", prompt="{# no #}")], versions={"torch": "{{ run }}"})
    text = Page(write_report(run_dir)).text
    for written in ("{{ 7 * 7 }}{% raw %}", "{# no #}", "torch: {{ run }}"):
        assert written in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        (Hardware(gpus={"H100-80GB": 8}, cpus=96, cpu="Xeon"), "hardware 8 x H100-80GB, 96 CPUs (Xeon) began"),
        (Hardware(cpus=2), "hardware 2 CPUs began"),
        (Hardware(), "hardware CPU began"),
        (None, "hardware A100-40GB, B200 began"),  # a manifest of an earlier release: what its placement names
    ],
)
def test_the_header_says_what_the_run_was_decoded_on(run_dir, hardware, said):
    tree = "target m\n├── cuda:0 B200  layers 0-3\n└── cuda:1 A100-40GB  head"
    finish_run(
        run_dir, [make_row(0)], hardware=hardware, placement_tree=tree, summary=RunSummary(), timeline=Timeline()
    )
    assert said in Page(write_report(run_dir)).words


@pytest.mark.slow
def test_the_row_shown_in_full_is_the_first_with_its_stored_prompt(run_dir):
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    finish_run(
        run_dir, [make_row(7), make_row(3, prompt=prompt), make_row(5)], summary=RunSummary(), timeline=Timeline()
    )
    asked = []
    words = Page(write_report(run_dir, find_prompt=lambda *words: asked.append(words))).words
    assert "results.includePrompt is set. id row-3 prompt system: Be brief. user: Why? text The answer is 3." in words
    assert asked == []


@pytest.mark.slow
@pytest.mark.parametrize(("found", "shown"), [(("Why?", "it was read from x"), True), ((None, "x is gone"), False)])
def test_a_prompt_that_was_not_stored_is_looked_up_and_the_page_says_where(run_dir, found, shown):
    finish_run(run_dir, [make_row(3)], summary=RunSummary(), timeline=Timeline())
    asked = []
    words = Page(write_report(run_dir, find_prompt=lambda *words: asked.append(words) or found)).words
    assert asked == [(IDENTITY, 3, "row-3")]
    assert f"Its prompt is not stored: results.includePrompt is not set; {found[1]}." in words
    assert ("id row-3 prompt Why? text" in words) == shown


@pytest.mark.slow
def test_a_run_never_puts_prompts_into_its_own_report(run_dir):
    finish_run(run_dir, [make_row(3)], summary=RunSummary(), timeline=Timeline())
    words = Page(write_report(run_dir)).words
    assert "is not set. specbatch report DIR looks it up in the dataset. id row-3 text" in words


@pytest.mark.slow
def test_long_text_is_cut_with_its_length(run_dir):
    finish_run(run_dir, [make_row(0, text="word " * 4000)], summary=RunSummary(), timeline=Timeline())
    path = write_report(run_dir)
    assert "(20,000 characters)" in Page(path).text
    assert path.stat().st_size < 200_000


def test_samples_are_bounded_and_spread_over_the_run(run_dir):
    finish_run(run_dir, normal_rows(1000), [make_error(2000 + index) for index in range(50)])
    facts = gather(Folder(run_dir))
    assert len(facts.samples) == 10
    assert max(row.index for row in facts.samples) > 500
    assert len(facts.wrong) == 5
    assert [len(rows) for rows in facts.errors.values()] == [3]
    assert facts.totals.results == 1000


def with_certificate(run_dir, shard, verification):
    """Writes the shard's manifest, with what verify found."""
    attempts = read_attempts(run_dir, shard, 2)
    made = Manifest(
        name="nightly", shard=shard, shards=2, complete=True, identity=IDENTITY, files=(), totals=attempts[-1].summary.totals,
        attempts=attempts, verification=verification.to_json(),
    )  # fmt: skip
    write_manifest(run_dir, made)


@pytest.mark.slow
def test_shards_are_told_as_one_run(run_dir):
    for shard in (0, 1):
        with ShardResults.open(run_dir, shard=shard, shards=2, identity=IDENTITY) as store:
            for index in range(10):
                store.write(make_row(10 * shard + index))
            timeline = Timeline()
            timeline.extend(Sample(t=t, rows=t, completion_tokens=100 * t, k=2) for t in range(10 + shard))
            store.save_progress(make_summary(store), timeline, "done")
    facts = gather(Folder(run_dir))
    assert facts.totals.results == 20
    assert facts.summary.predicted_tokens_per_second == 1800.0
    assert facts.speedup.target_only_tokens_per_second == 600.0  # two estimates, which add up as the speeds do
    assert facts.speedup.times == pytest.approx(facts.summary.tokens_per_second / 600)
    measured = Verification(
        finished=20, sampled=5, seed=0, exact=5, target_only_tokens_per_second=10.0, target_only_rows=5
    )
    for shard in (0, 1):
        with_certificate(run_dir, shard, measured)
    facts = gather(Folder(run_dir))
    assert facts.speedup.times == pytest.approx(facts.summary.tokens_per_second / 2 / 10)  # measured in one place
    page = Page(write_report(run_dir))
    assert "2 shards" in page.text
    assert "throughput" in page.ids


def test_a_directory_without_a_run_is_an_error(tmp_path):
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ResultsError, match="no run is there"):
            write_report(directory)


@pytest.mark.slow
def test_a_row_that_is_none_is_counted(run_dir):
    finish_run(run_dir, [make_row(0)])
    with (run_dir / "part-00000-of-00001.jsonl").open("ab") as file:
        file.write(b'{"id": 5}\n')
    assert "1 line could not be read" in Page(write_report(run_dir)).text


def test_a_run_in_several_parts_is_told_as_one(run_dir):
    policy = PartPolicy(max_bytes=600)
    with ShardResults.open(run_dir, identity=IDENTITY, policy=policy) as store:
        for index in range(10):
            store.write(make_row(index))
            store.write_error(make_error(100 + index))
        store.save_progress(make_summary(store), Timeline(), "done")
    assert len(list(run_dir.glob("part-*"))) > 2
    facts = gather(Folder(run_dir))
    assert (facts.totals.results, facts.totals.errors) == (10, 10)


@pytest.mark.slow
def test_a_published_run_has_the_same_report_beside_us(normal, tmp_path, monkeypatch):
    store = fsspec.filesystem("memory")
    for path in normal.iterdir():
        if path.is_file() and path.suffix != ".html":
            store.pipe_file(f"/runs/nightly/{path.name}", path.read_bytes())
    monkeypatch.chdir(tmp_path)
    written = write_report("memory://runs/nightly")
    assert written == Path("nightly-report/report.html")
    there, here = Page(written), Page(normal / "report.html")
    assert there.text == here.text.replace(str(normal), "memory://runs/nightly")
    assert len(list((written.parent / "figures").glob("*.png"))) == 10


@pytest.mark.slow
def test_a_report_goes_where_it_is_told_to(normal, tmp_path):
    before = (normal / "report.html").stat().st_mtime_ns
    assert write_report(normal, tmp_path / "there" / "it is") == tmp_path / "there" / "it is" / "report.html"
    assert (normal / "report.html").stat().st_mtime_ns == before


def test_a_directory_that_cannot_be_written_names_the_way_out(normal, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ResultsError, match="-o FOLDER"):
        write_report(normal)


@pytest.mark.slow
def test_what_was_not_measured_is_said(run_dir):
    finish_run(run_dir, [make_row(0)], summary=RunSummary(seconds=1.0, completion_tokens=5), timeline=Timeline())
    text = Page(write_report(run_dir)).words
    for said in (
        "acceptance rate — nothing was drafted", "verified — not yet", "Not verified yet.",
        "Throughput over time: it was decoded too quickly for a curve", "Errors by code: no row ended in the errors file",
    ):  # fmt: skip
        assert said in text, said
    assert "target alone" not in text.partition("Verification")[0]  # which it was
    assert "ceiling" not in text
    finish_run(
        run_dir, [make_row(0)], summary=RunSummary(seconds=1.0, completion_tokens=5, drafted=3), timeline=Timeline()
    )
    assert "against the target alone — unknown: specbatch verify measures it" in Page(write_report(run_dir)).words


@pytest.mark.slow
def test_a_price_shows_what_a_million_tokens_cost(run_dir):
    spent = RunSummary(seconds=1800.0, completion_tokens=2_000_000, gpu_seconds=3600.0, gpu_seconds_before=360.0)
    finish_run(run_dir, [make_row(0)], summary=spent, timeline=Timeline())
    assert "per million tokens" not in Page(write_report(run_dir)).words
    text = Page(write_report(run_dir, price=2.5)).words
    assert "per million tokens 1.25 1.00 GPU hours of decoding at 2.5; 2.75 in all, with loading and warm-up" in text


@pytest.mark.slow
def test_the_certificate_is_shown_with_the_speed_of_the_target_alone(run_dir):
    found = Verification(
        finished=60, sampled=12, seed=3, exact=10, ties=1, unexplained=1, target="embedded:target@1", dtype="float32",
        scores="float32", target_only_tokens_per_second=50.0, target_only_rows=12, target_only_tokens=480,
        target_only_seconds=9.6, max_sequences=8, device="cpu",
        divergences=(Divergence(id="row-7", index=7, kind="unexplained", position=3, recorded=" cat", target=" dog",
                                margin=2.5, bound=0.1, excerpt="the| cat"),),
    )  # fmt: skip
    finish_run(run_dir, [make_row(index) for index in range(60)], verification=found.to_json())
    text = Page(write_report(run_dir)).words
    speed = sum(10 + index % 50 for index in range(60)) / 12.5
    for said in (
        f"against the target alone {speed / 50:.2f}x measured on 12 rows: alone 50.0 tokens/s", "x the target alone (measured on 12 rows)",
        "verified 10 of 12 1 row unexplained", found.verdict, "exact 10, near ties 1, unexplained 1",
        "50.0 tokens/s, measured on 12 of the rows (480 tokens, 8 at once) on cpu", "row-7", "' cat'", "the| cat",
    ):  # fmt: skip
        assert said in text, said


@pytest.mark.slow
def test_restarts_are_marked_and_listed(run_dir):
    for outcome in ("stopped", "running", "done"):
        with ShardResults.open(run_dir, identity=IDENTITY) as store:
            store.write(make_row(store.found.rows))
            store.save_progress(make_summary(store), make_timeline(), outcome)
    facts = gather(Folder(run_dir))
    assert series.restarts(facts.attempts[0]) == pytest.approx([11.7, 23.4])
    text = Page(write_report(run_dir)).text
    assert text.count("Dotted: restarts.") == 3
    assert [outcome in text for outcome in ("stopped", "killed", "done")] == [True] * 3


@pytest.mark.slow
def test_publishing_that_fails_is_in_the_report(run_dir):
    state = PublishState(
        destination="s3://b/nightly", pending_files=2, pending_bytes=10, problem="no route", failing_since=5.0
    )
    with ShardResults.open(run_dir, identity=IDENTITY) as store:
        store.write(make_row(0))
        store.save_progress(make_summary(store), Timeline(), "done", Progress(publish=state))
    assert "2 waiting (10 bytes); failing: since 1970-01-01 00:00 UTC, no route" in Page(write_report(run_dir)).text


@pytest.mark.slow
def test_rows_decoded_again_after_a_lost_volume_are_told(run_dir):
    finish_run(run_dir, [make_row(0), make_row(1)])
    part = run_dir / "part-00000-of-00001.jsonl"
    (run_dir / "part-00000-of-00001-00001.jsonl").write_bytes(part.read_bytes().splitlines(keepends=True)[0])
    assert "1 row twice in the files" in Page(write_report(run_dir)).text


def test_a_time_axis_has_the_unit_that_suits_it():
    assert [series.time_unit(seconds)[1] for seconds in (20, 600, 90_000, 900_000)] == [
        "seconds",
        "minutes",
        "hours",
        "days",
    ]


def test_rows_that_cannot_be_read_are_an_error(run_dir, monkeypatch):
    finish_run(run_dir, [make_row(0)])

    class Broken(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Folder, "open", lambda self, name: Broken())
    with pytest.raises(ResultsError, match=r"part-00000-of-00001.jsonl: cannot read the rows: .*Input/output error"):
        write_report(run_dir)


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_what_is_not_installed_is_named_with_the_remedy(normal, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    remedy = rf"{missing}, which is not installed[\s\S]*pip install 'specbatch\[runner\]' \(or {missing}\)"
    with pytest.raises(ResultsError, match=remedy):
        write_report(normal)


@pytest.mark.slow
def test_importing_the_results_imports_neither_jinja_nor_matplotlib_nor_torch():
    code = """
import sys
for name in ("torch", "transformers", "matplotlib", "numpy", "jinja2"):
    sys.modules[name] = None
import specbatch.results.report.report, specbatch.results.shard.shard
assert not any(name.startswith(("specbatch.engine", "specbatch.runner")) for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_accepted_lengths_follow_from_the_positions(normal):
    # 240 row rounds; 210, 170, 130 and 110 of them kept at least 1, 2, 3 and 4.
    assert charts.accepted_length_counts(gather(Folder(normal))) == [30, 40, 40, 20, 110]


def test_rates_add_up_over_shards_and_follow_each_other_over_attempts():
    line = [Sample(t=t, rows=0, completion_tokens=50 * t) for t in range(11)]
    assert [rate for _, rate in series.rates([line])] == pytest.approx([50.0] * 10)
    assert [rate for _, rate in series.rates([line, line[:6]])] == pytest.approx([100.0] * 5 + [50.0] * 5)
    assert series.rates([]) == series.rates([line[:1]]) == []
    still = [Sample(t=0, rows=0, completion_tokens=0)] * 2
    assert series.rates([still]) == []


def test_the_median_is_a_length_that_occurs():
    assert series.median({3: 1, 5: 1, 90: 1}) == 5
