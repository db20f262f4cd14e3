import csv
import io
import json
import re
from dataclasses import replace

import fsspec
import msgspec
import pytest

from specbatch.errors import ResultsError
from specbatch.results.compare import texts as compare_texts
from specbatch.results.compare.compare import labels_of, read_compared, warnings_of
from specbatch.results.compare.table import compare_json, render_csv, render_markdown, render_text
from specbatch.results.compare.texts import SameTexts, same_texts
from specbatch.results.manifest import write_manifest, write_success
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.sorting import LineSorter
from specbatch.results.summary import RunSummary
from specbatch.results.verification import Verification
from tests.results.builders import IDENTITY, finish_run, make_error, make_row

TREE = "Placement: same, 8 rows at once\n\ntarget m: weights 1 GiB\n└── cuda:0 H100-80GB  layers 0-3\n\nEnvironment\n  A=cuda:1 B200"


def spec(**decoding):
    fields = {
        "numSpeculativeTokens": "auto",
        "acceptanceRule": "coupled",
        "temperature": 0.0,
        "topP": 1.0,
        "topK": 0,
        "seed": 0,
    }
    return {
        "spec": {
            "target": {"dtype": "bfloat16"},
            "drafter": {"method": "model", "dtype": "bfloat16"},
            "decoding": {**fields, "maxNewTokens": 128, **decoding},
            "placement": {"gpus": 4, "strategy": "auto"},
        }
    }


def make(folder, rows=None, *, identity=IDENTITY, errors=(), **manifest):
    defaults = {
        "spec": spec(), "placement_tree": TREE, "versions": {"specbatch": "0.1.0", "torch": "2.13.0"},
        "env": {"GPU_STRATEGY": "multi_gpu_ratio", "TARGET_GPU": "cuda:0;cuda:2", "TARGET_GPU_RATIO": "1", "DRAFTER_GPU_RATIO": "1"},
    }  # fmt: skip
    made = finish_run(
        folder, [make_row(index) for index in range(20)] if rows is None else rows, errors, **{**defaults, **manifest}
    )
    write_manifest(folder, msgspec.structs.replace(made, identity=identity))
    write_success(folder)
    return Folder(folder)


def read(*folders, texts=True):
    found = same_texts(folders) if texts else [None] * len(folders)
    labels = labels_of(folders)
    return [
        replace(read_compared(folder, label), texts=same)
        for folder, label, same in zip(folders, labels, found, strict=True)
    ]


def cells(text):
    """label -> values of an aligned table."""
    lines = (re.split(r"\s{2,}", line) for line in text.splitlines())
    return {line[0]: line[1:] for line in lines}


@pytest.fixture
def pair(tmp_path):
    fixed = make(tmp_path / "fixed", spec=spec(numSpeculativeTokens=4), errors=[make_error(90)])
    return make(tmp_path / "auto"), fixed


def test_what_differs_is_a_line_and_what_is_the_same_is_said_once(pair):
    text = render_text(read(*pair), width=100)
    table = cells(text)
    assert table["run"] == ["auto", "fixed"]
    assert table["k"] == ["auto, mean 4.0", "4"]
    assert table["errors"] == ["0", "1"]
    assert table["same text as first"] == ["all 20", "all 20"]
    assert table["x first"] == ["1.00x", "1.00x"]
    assert "temperature" not in table
    common = " ".join(text.partition("\n\n")[0].split())
    for said in (
        "target embedded:target@1", "acceptance rule coupled", "device H100-80GB", "strategy multi_gpu_ratio", "GPUs 4",
        "ratio 1:1", "replicas 2", "batch 8", "tokens/s 31.2", "x target alone 0.10x (estimated)", "acceptance_rate 0.646",
        "mean_acceptance_length 3.58", "of the ceiling 3.5%", "load and warm-up 2.30 s", "verification not verified",
    ):  # fmt: skip
        assert said in common, said


def test_all_shows_every_field_also_what_is_unknown(pair):
    runs = read(*pair)
    table = cells(render_text(runs, width=100, everything=True))
    assert set(runs[0].values) <= set(table)
    assert {"mean k", "target alone was", "torch"} <= set(table)
    assert table["temperature"] == ["0.0", "0.0"]


def test_one_run_alone_is_its_own_table(pair):
    text = render_text(read(pair[0]), width=100)
    assert cells(text)["k"] == ["auto, mean 4.0"]
    assert "same text" not in text


def test_a_comparison_that_is_not_fair_is_said_to_be_so(tmp_path, pair):
    other = make(
        tmp_path / "other", [make_row(0)], identity=replace(IDENTITY, dataset="another", models={"target": "m@2"}),
        placement_tree=TREE.replace("H100-80GB", "A100-40GB"), spec=spec(temperature=0.7, maxNewTokens=64), complete=False,
    )  # fmt: skip
    (other.local / "_SUCCESS").unlink(missing_ok=True)
    said = " ".join(warnings_of(read(pair[0], other)))
    for part in (
        "the datasets differ", "different numbers of rows", "the targets differ", "the devices differ", "the temperatures differ",
        "maxNewTokens differs", "not complete: other",
    ):  # fmt: skip
        assert part in said, part
    assert "careful: the devices differ" in render_text(read(pair[0], other), width=100)
    assert warnings_of(read(*pair)) == ["the runs have different numbers of rows"]


def test_the_speed_of_the_target_alone_says_how_it_was_found(tmp_path, pair):
    found = Verification(
        finished=20, sampled=5, seed=0, exact=4, unexplained=1, target_only_tokens_per_second=10.0, target_only_rows=5
    )
    verified = make(tmp_path / "verified", verification=found.to_json())
    runs = read(pair[0], verified)
    table = cells(render_text(runs, width=150))
    assert table["x target alone"] == ["0.10x (estimated)", "3.12x (measured)"]
    assert table["verification"] == ["not verified", "4 of 5 exact, 1 unexplained"]
    assert any("measured by replay in some" in one for one in warnings_of(runs))


def test_texts_are_held_against_the_first_run_by_index_and_id(tmp_path):
    first = make(tmp_path / "a", [make_row(index) for index in range(10)])
    changed = [make_row(index, text="other") if index in {3, 4} else make_row(index) for index in reversed(range(10))]
    others = [make_row(index, id=f"another-{index}") for index in range(5)] + [make_row(5), make_row(20)]
    found = same_texts([first, make(tmp_path / "b", changed), make(tmp_path / "c", others)])
    assert found == [SameTexts(10, 10), SameTexts(10, 8), SameTexts(1, 1)]
    assert found[1].share == 0.8
    assert SameTexts(0, 0).share is None


def test_a_row_that_is_there_twice_counts_once_and_broken_lines_do_not(tmp_path):
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    for folder in (first, second):
        lines = (folder.local / "part-00000-of-00001.jsonl").read_bytes().splitlines(keepends=True)
        (folder.local / "part-00000-of-00001-00001.jsonl").write_bytes(b"".join([*lines[:7], b"{}\n", b'{"torn']))
    assert same_texts([first, second]) == [SameTexts(20, 20)] * 2


def test_texts_are_compared_in_bounded_memory(tmp_path, monkeypatch):
    sorters = []

    def small(directory):
        sorters.append(LineSorter(directory, memory_bytes=20_000))
        return sorters[-1]

    monkeypatch.setattr(compare_texts, "LineSorter", small)
    rows = [make_row(index) for index in range(1000)]
    first = make(tmp_path / "a", rows)
    second = make(
        tmp_path / "b",
        [msgspec.structs.replace(row, text="x") if row.index % 10 == 0 else row for row in reversed(rows)],
    )
    assert same_texts([first, second]) == [SameTexts(1000, 1000), SameTexts(1000, 900)]
    assert sorters[0].spilled_bytes > 20_000


def test_no_room_for_sorting_is_an_error_with_the_way_out(pair, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/proc/nowhere")
    monkeypatch.setattr(compare_texts, "LineSorter", lambda directory: LineSorter(directory, memory_bytes=1))
    with pytest.raises(ResultsError, match="--no-texts"):
        same_texts(pair)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_table_fits_the_terminal(tmp_path, count):
    folders = []
    for number in range(count):
        drafter = f"some-organisation/some-drafter-of-{number}B@{number}234567890"
        identity = replace(IDENTITY, models={"target": "embedded:target@1", "drafter": drafter})
        name = f"run-{number}-with-a-long-name"
        folders.append(make(tmp_path / name, spec=spec(numSpeculativeTokens=number), identity=identity))
    runs = read(*folders)
    for width in (60, 80, 120, 200):
        text = render_text(runs, width=width)
        assert max(map(len, text.splitlines())) <= width
        for number in range(count):
            assert text.count(f"run-{number}-with-a-lo") == 1


def test_many_runs_that_differ_in_little_are_rows(tmp_path):
    folders = [make(tmp_path / f"run-{number}", spec=spec(seed=number)) for number in range(9)]
    lines = render_text(read(*folders), width=80).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("run-")] == [f"run-{number}" for number in range(9)]


def test_markdown_is_a_table_that_names_cannot_break(pair):
    first, second = read(*pair)
    text = render_markdown([replace(first, label="a|b\\"), second])
    head, rule, *body = [line for line in text.splitlines() if line.startswith("|")]
    assert head == "| run | a\\|b\\\\ | fixed |"
    assert rule == "|---|---:|---:|"
    assert all(line.replace("\\|", "").count("|") == 4 for line in body)
    assert text.startswith("Same in all: state complete")
    assert text.endswith("Careful: the runs have different numbers of rows.")
    assert "| 1.00x |" in render_markdown(read(*pair * 3))  # six runs: as rows


def test_csv_and_json_hold_every_field_as_it_is(pair):
    runs = read(*pair)
    rows = list(csv.DictReader(io.StringIO(render_csv(runs))))
    assert [row["k"] for row in rows] == ["auto", "4"]
    assert float(rows[0]["tokens/s"]) == pytest.approx(31.2)
    assert (rows[0]["target"], rows[0]["same text"], rows[0]["right answers"]) == ("embedded:target@1", "20", "")
    value = json.loads(json.dumps(compare_json(runs)))
    assert [run["errors"] for run in value["runs"]] == [0, 1]
    assert value["runs"][1]["texts"] == {"both": 20, "same": 20, "share": 1.0}
    assert value["warnings"] == ["the runs have different numbers of rows"]


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}"])
def test_no_cell_of_a_csv_is_a_formula_to_a_spreadsheet(begins, pair):
    (run, _) = read(*pair)
    evil = f'{begins}HYPERLINK("http://evil")'
    changed = replace(run, label=evil, where=evil, values={**run.values, "target": evil, "tokens/s": -1.5})
    (row,) = csv.DictReader(io.StringIO(render_csv([changed]), newline=""))
    assert row["run"] == row["where"] == row["target"] == f"'{evil}"
    assert float(row["tokens/s"]) == -1.5  # a number below nought is a number


def test_a_name_with_control_characters_stays_on_its_line(tmp_path, pair):
    evil = make(tmp_path / "evil", identity=replace(IDENTITY, models={"target": "a\x1b[31m\nb@1"}))
    text = render_text(read(pair[0], evil), width=120)
    assert "\x1b" not in text
    assert "a?[31m?b@1" in text


def test_a_published_run_stands_beside_a_local_one(pair):
    store = fsspec.filesystem("memory")
    for path in pair[1].local.iterdir():
        if path.is_file():
            store.pipe_file(f"/compared/fixed/{path.name}", path.read_bytes())
    runs = read(pair[0], Folder("memory://compared/fixed"))
    assert runs[1].values["errors"] == 1
    assert runs[1].texts == SameTexts(20, 20)


def test_labels_are_the_shortest_ends_that_differ():
    def labels(*paths):
        return labels_of([Folder(path) for path in paths])

    assert labels("/a/nightly", "/b/nightly") == ["a/nightly", "b/nightly"]
    assert labels("/a/x", "/b/y") == ["x", "y"]
    assert labels("x", "x") == ["x", "x"]
    assert labels("nightly", "old/nightly") == ["nightly", "old/nightly"]


def test_a_run_under_way_is_compared_as_far_as_it_is_known(tmp_path, pair):
    from specbatch.results.shard.shard import ShardResults
    from specbatch.results.timeline import Timeline
    from tests.results.builders import make_summary

    with ShardResults.open(tmp_path / "going", identity=IDENTITY) as store:
        store.write(make_row(0))
        store.save_progress(make_summary(store), Timeline())
        runs = read(pair[0], Folder(tmp_path / "going"))
    table = cells(render_text(runs, width=100))
    assert table["state"][0] == "complete"
    assert table["rows"] == ["20", "1"]
    assert table["target"][1] == "-"


def test_a_directory_without_a_run_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="no run is there"):
        read(Folder(tmp_path), texts=False)


def test_a_price_shows_the_cost_of_tokens_and_says_where_no_gpu_hours_were_counted(tmp_path):
    for name, hours in (("gpu", 3600.0), ("cpu", 0.0)):
        spent = RunSummary(seconds=20.0, completion_tokens=1_000_000, gpu_seconds=hours)
        finish_run(tmp_path / name, [make_row(0)], summary=spent)
    runs = [read_compared(Folder(tmp_path / name), name, price=2.5) for name in ("gpu", "cpu")]
    text = render_text(runs, width=120)
    assert re.search(r"\ncost of 1M tokens +2\.50 \(at 2\.5 a GPU hour\) +-\n", text)
    assert "so tokens have no cost: cpu" in " ".join(text.split())
