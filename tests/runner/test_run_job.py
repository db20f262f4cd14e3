"""Whole runs in this process, with the real engine on a tiny pair."""

import hashlib
import io
import json
import os
import shutil
import time
import uuid

import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from specbatch.errors import (
    DatasetError,
    ModelError,
    OutOfMemoryError,
    ResultsError,
    SpecError,
    VocabularyMismatchError,
)
from specbatch.results.collect.collect import collect
from specbatch.results.collect.summary import summary_lines
from specbatch.results.layout import shard_files
from specbatch.results.manifest import read_manifests
from specbatch.results.status.status import read_status
from specbatch.results.status.status_text import render_status
from specbatch.results.storage.folder import Folder
from specbatch.runner.display import JsonDisplay
from specbatch.runner.job import run_job
from specbatch.runner.verify.verify import verify_run
from tests.runner.tiny import byte_level_tokenizer, read_lines, save_model, spec_text, write_rows

ROWS = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(10)]


def by_id(lines):
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["id"]: line["text"] for line in lines}


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "tiny"


@pytest.mark.slow
def test_every_row_ends_once_and_success_is_written(make_job, results):
    summary = run_job(make_job(ROWS))
    assert sorted(by_id(read_lines(results))) == sorted(row["id"] for row in ROWS)
    assert (summary.results, summary.errors, summary.skipped) == (10, 0, 0)
    assert summary.completion_tokens == sum(line["usage"]["completion_tokens"] for line in read_lines(results))
    assert summary.tokens_per_second > 0
    assert (results / "_SUCCESS").is_file()
    manifest = json.loads((results / "manifest-00000-of-00001.json").read_text())
    assert manifest["complete"]
    assert set(manifest["placement"]) == {"target", "drafter"}
    assert set(manifest["placement"]["target"].values()) == {"cpu"}
    assert manifest["versions"]["torch"]
    assert manifest["hardware"]["gpus"] == {}
    assert manifest["hardware"]["cpus"] == os.cpu_count()
    assert "content-" in manifest["identity"]["models"]["target"]


@pytest.mark.slow
def test_parts_are_closed_by_size_and_the_manifest_vouches_for_each_across_a_restart(make_job, results):
    rows = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(60)]
    job = make_job(rows, "results.partSize=4Ki")
    run_job(job)
    names = [file.name for file in shard_files(results, "part")]
    assert len(names) >= 3
    closed = {name: (results / name).read_bytes() for name in names[:-1]}
    with (results / names[-1]).open("r+b") as last:  # a kill: the last row is torn
        last.truncate(last.seek(0, 2) - 10)
    run_job(job)
    assert closed == {name: (results / name).read_bytes() for name in closed}
    assert sorted(by_id(read_lines(results))) == sorted(row["id"] for row in rows)
    manifest = json.loads((results / "manifest-00000-of-00001.json").read_text())
    assert manifest["rows"]["dataset"] == 60
    listed = {entry["name"]: (entry["rows"], entry["sha256"]) for entry in manifest["files"]}
    for path in [*results.glob("part-*"), *results.glob("errors-*")]:
        content = path.read_bytes()
        assert listed.pop(path.name) == (content.count(b"\n"), hashlib.sha256(content).hexdigest())
    assert not listed


@pytest.mark.slow
def test_a_row_changed_behind_what_the_identity_looks_at_is_refused_before_anything_is_written(make_job, results):
    rows = [{"id": f"r{number}", "prompt": f"hello {number}", "note": "x" * 30_000} for number in range(6)]
    run_job(make_job(rows))
    part = results / "part-00000-of-00001.jsonl"
    first, before = part.read_bytes().partition(b"\n")[2], part.read_bytes()
    part.write_bytes(first)  # one row is not finished
    rows[4]["prompt"] = "hullo 4"  # behind the first 64 KiB, the file as long as before
    with pytest.raises(ResultsError, match="the results hold another row 4") as caught:
        run_job(make_job(rows))
    assert "put the old dataset back" in caught.value.remedy
    rows[4]["prompt"] = "hello 4"
    run_job(make_job(rows))
    assert sorted(part.read_bytes().splitlines()) == sorted(before.splitlines())


@pytest.mark.slow
def test_a_disk_that_stays_full_is_told_by_the_row_that_did_not_fit(make_job, monkeypatch):
    def failing(doing):
        def fail(*arguments):
            raise ResultsError(f"cannot {doing}: No space left on device")

        return fail

    monkeypatch.setattr("specbatch.results.shard.shard.Parts.append", failing("append a row"))
    monkeypatch.setattr("specbatch.runner.output.manifest_writer.write_manifest", failing("write the manifest"))
    with pytest.raises(ResultsError, match="cannot append a row"):
        run_job(make_job(ROWS))


@pytest.mark.slow
def test_second_start_skips_everything_and_loads_no_model(make_job, results, monkeypatch):
    job = make_job(ROWS)
    run_job(job)
    before = (results / "part-00000-of-00001.jsonl").read_bytes()
    placement = json.loads((results / "manifest-00000-of-00001.json").read_text())["placement"]

    def refuse(*arguments):
        pytest.fail("a model was loaded")

    monkeypatch.setattr("specbatch.runner.engine_set.load_engines", refuse)
    summary = run_job(job)
    assert (summary.results, summary.skipped) == (0, 10)
    assert (results / "part-00000-of-00001.jsonl").read_bytes() == before
    assert (results / "_SUCCESS").is_file()
    assert json.loads((results / "manifest-00000-of-00001.json").read_text())["placement"] == placement


@pytest.mark.slow
def test_restart_after_a_cut_gives_the_text_of_an_uninterrupted_run(make_job, results):
    job = make_job(ROWS, "decoding.temperature=0.9", "decoding.seed=3")
    run_job(job)
    whole = by_id(read_lines(results))
    part = results / "part-00000-of-00001.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:4]) + lines[4][:20])  # a torn line at the end
    summary = run_job(job)
    assert (summary.results, summary.skipped) == (6, 4)
    assert part.read_bytes().startswith(b"".join(lines[:4]))
    assert by_id(read_lines(results)) == whole


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_restart_in_the_middle_of_a_table_answers_each_row_once_as_lines_are_answered(
    make_job, results, tmp_path, kind
):
    rows = [{"prompt": f"hello {number}", "max_tokens": number + 2} for number in range(6)]
    run_job(make_job(rows))
    lines = {line["index"]: line["text"] for line in read_lines(results)}
    shutil.rmtree(results)
    write_table(tmp_path / f"rows.{kind}", rows)
    job = make_job(tmp_path / f"rows.{kind}")
    run_job(job)
    part = results / "part-00000-of-00001.jsonl"
    whole = sorted(part.read_bytes().splitlines())
    assert {line["index"]: line["text"] for line in read_lines(results)} == lines
    part.write_bytes(b"\n".join(whole[:3]) + b"\n" + whole[3][:20])  # as a kill leaves it
    (results / "_SUCCESS").unlink()
    summary = run_job(job)
    assert (summary.results, summary.skipped) == (3, 3)
    again = [{**json.loads(line), "speculation": None} for line in sorted(part.read_bytes().splitlines())]
    assert again == [{**json.loads(line), "speculation": None} for line in whole]


def write_table(path, rows):
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    elif path.suffix == ".csv":
        path.write_text("prompt,max_tokens\n" + "".join(f"{row['prompt']},{row['max_tokens']}\n" for row in rows))
    else:
        path.write_text(json.dumps(rows, indent=1))


@pytest.mark.slow
def test_bad_rows_in_the_middle_become_error_rows(make_job, results):
    rows = [
        ROWS[0],
        b"{broken",
        ROWS[0],
        {"id": "empty", "prompt": ""},
        {"id": "long", "prompt": "hello " * 200},
        b"\xff\xfe",
        ROWS[1],
        {"id": "role", "messages": [{"role": "tool", "content": "x"}]},
    ]
    summary = run_job(make_job(rows))
    assert set(by_id(read_lines(results))) == {"r0", "r1"}
    errors = {line["index"]: line["code"] for line in read_lines(results, "errors")}
    assert errors == {
        1: "invalid_json",
        2: "duplicate_id",
        3: "empty_prompt",
        4: "prompt_too_long",
        5: "invalid_encoding",
        7: "chat_template",
    }
    assert (summary.results, summary.errors) == (2, 6)
    again = run_job(make_job(rows))
    assert (again.results, again.errors, again.skipped) == (0, 0, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "fails"), [("0", True), ("1", True), ("2", False), ("'19%'", True), ("'20%'", False)]
)
def test_error_budget_ends_the_run_after_saving(make_job, results, budget, fails):
    rows = [*ROWS[:4], b"bad", *ROWS[4:8], b"worse"]
    job = make_job(rows, f"dataset.errorBudget={budget}")
    if not fails:
        run_job(job)
        assert (results / "_SUCCESS").is_file()
        return
    with pytest.raises(DatasetError, match="error budget"):
        run_job(job)
    assert read_lines(results, "errors")
    assert not (results / "_SUCCESS").exists()
    manifest = json.loads((results / "manifest-00000-of-00001.json").read_text())
    assert not manifest["complete"]
    assert manifest["attempts"][-1]["outcome"] == "failed"
    if budget.startswith("'"):
        assert len(read_lines(results)) == 8
    with pytest.raises(DatasetError, match="error budget"):
        run_job(job)


@pytest.mark.slow
def test_shards_of_an_indexed_job_together_hold_every_row_once(make_job, results):
    job = make_job([*ROWS, ROWS[3]], "job.completions=3")
    for index in range(3):
        run_job(job, env={"JOB_COMPLETION_INDEX": str(index)})
        assert (results / "_SUCCESS").exists() == (index == 2)
    lines = read_lines(results)
    assert sorted(by_id(lines)) == sorted(row["id"] for row in ROWS)
    assert [line["index"] for line in read_lines(results, "errors")] == [10]
    with pytest.raises(SpecError, match="JOB_COMPLETION_INDEX"):
        run_job(job, env={"JOB_COMPLETION_INDEX": "3"})


@pytest.mark.slow
def test_text_is_the_same_whatever_the_drafter_k_and_batch(make_job, tmp_path):
    texts = []
    variants = [
        ("decoding.numSpeculativeTokens=0",),
        ("decoding.numSpeculativeTokens=4", "batching.maxSequences=1"),
        ("decoding.numSpeculativeTokens=3", "drafter.method=ngram", "drafter.model=null"),
        ("drafter=null", "decoding.numSpeculativeTokens=auto"),
    ]
    for at, variant in enumerate(variants):
        job = make_job(ROWS, f"results.dir={tmp_path}/{at}", *variant)
        run_job(job)
        texts.append(by_id(read_lines(tmp_path / str(at) / "tiny")))
    assert all(text == texts[0] for text in texts)
    assert len(set(texts[0].values())) > 1


@pytest.mark.slow
def test_stop_strings_and_overrides_are_kept_by_row(make_job, results):
    run_job(make_job([{"id": "plain", "prompt": "hello", "max_tokens": 30}]))
    text = read_lines(results)[0]["text"]
    middle = text[len(text) // 2 :][:3]
    rows = [
        {"id": "stopped", "prompt": "hello", "max_tokens": 30, "stop": middle},
        {"id": "short", "prompt": "hello", "max_tokens": 5},
    ]
    run_job(make_job(rows), fresh=True)
    lines = {line["id"]: line for line in read_lines(results)}
    assert lines["stopped"]["text"] == text[: text.index(middle)]
    assert lines["stopped"]["finish_reason"] == "stop"
    assert lines["short"]["usage"]["completion_tokens"] == 5
    assert lines["short"]["finish_reason"] == "length"


@pytest.mark.slow
def test_answers_are_compared_and_prompts_included_where_asked_for(make_job, results):
    run_job(make_job(ROWS[:2]))
    texts = by_id(read_lines(results))
    rows = [{**ROWS[0], "answer": f" {texts['r0']}\n"}, {**ROWS[1], "answer": "no such text"}, ROWS[2]]
    job = make_job(rows, "dataset.answerField=answer", "results.includePrompt=true")
    with pytest.raises(ResultsError, match="answerField"):
        run_job(job)
    summary = run_job(job, fresh=True)
    lines = {line["id"]: line for line in read_lines(results)}
    assert (lines["r0"]["correct"], lines["r1"]["correct"], lines["r2"].get("correct")) == (True, False, None)
    assert lines["r0"]["prompt"] == "hello 0"
    assert summary.totals.share_correct == 0.5


TEMPLATE = "dataset.template=[{role: user, content: '{{ q }} {{ kind }}'}, {role: assistant, content: '{{ start }}'}]"


@pytest.mark.slow
def test_a_template_begins_the_answer_columns_go_along_and_a_certificate_replays_both(make_job, results):
    rows = [{"id": f"r{at}", "q": f"hello {at}", "kind": "x", "start": "Well,", "gold": [at, None]} for at in range(3)]
    run_job(make_job([*rows, {"id": "bad", "q": "hello", "gold": 1}], TEMPLATE, "results.includePrompt=true"))
    lines = by_id(read_lines(results)), {line["id"]: line for line in read_lines(results)}
    assert lines[1]["r1"]["columns"] == {"gold": [1, None]}
    assert lines[1]["r1"]["prompt"][-1] == {"role": "assistant", "content": "Well,"}
    (error,) = read_lines(results, "errors")
    assert (error["code"], error["columns"]) == ("template", {"gold": 1})
    (manifest,) = read_manifests(results)
    assert manifest.prompts.startswith("dataset.template over kind and q and start")
    found = verify_run(results)
    assert (found.sampled, found.exact) == (3, 3)


@pytest.mark.slow
def test_training_sets_are_read_and_their_answers_are_kept_and_not_scored(make_job, results, tmp_path):
    turns = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "So."}]
    summary = run_job(make_job([{"id": "a", "conversations": turns, "source": "web"}]))
    (line,) = read_lines(results)
    assert (line["answer"], line["columns"], "correct" in line) == ("So.", {"source": "web"}, False)
    assert summary.totals.share_correct is None
    plain = make_job([{"id": "a", "prompt": "hello"}], f"results.dir={tmp_path / 'plain'}")
    run_job(plain)
    assert read_lines(tmp_path / "plain" / "tiny")[0]["text"] == line["text"]


@pytest.mark.slow
def test_openai_batch_lines_are_answered_in_their_form(make_job, results):
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    good = {"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    bad = {**good, "custom_id": "request-2", "body": {**body, "best_of": 3}}
    other = {**good, "custom_id": "request-3", "body": {**body, "model": "another/model"}}
    run_job(make_job([good, bad, other]))
    answer = read_lines(results)[0]
    assert (answer["custom_id"], answer["error"]) == ("request-1", None)
    assert answer["response"]["body"]["choices"][0]["message"]["role"] == "assistant"
    assert answer["response"]["body"]["usage"]["completion_tokens"] == 4
    errors = {error["custom_id"]: error["error"]["code"] for error in read_lines(results, "errors")}
    assert errors == {"request-2": "unsupported_option", "request-3": "unsupported_option"}
    assert read_manifests(results)[0].other_models == 1


@pytest.mark.slow
def test_row_beyond_the_targets_positions_is_refused(make_job, results):
    job = make_job([{"id": "fits", "prompt": "hello"}, {"id": "long", "prompt": "q9" * 300}], "batching.maxLength=4096")
    run_job(job)
    assert [line["id"] for line in read_lines(results)] == ["fits"]
    assert "a row may have 512" in read_lines(results, "errors")[0]["message"]


@pytest.mark.slow
def test_text_file_is_a_dataset(make_job, results, tmp_path):
    (tmp_path / "prompts.txt").write_text("hello\n\n你好\n", encoding="utf-8")
    run_job(make_job(tmp_path / "prompts.txt"))
    assert [line["index"] for line in sorted(read_lines(results), key=lambda line: line["index"])] == [0, 1]


@pytest.mark.slow
def test_a_run_in_which_no_row_was_answered_has_not_succeeded(make_job, results):
    rows = [*({"prompt": None, "question": f"hello {number}"} for number in range(5)), b"broken"]
    job = make_job(rows, "dataset.promptField=prompt")
    for skipped in (0, 6):  # the second start finds every row finished
        with pytest.raises(DatasetError) as caught:
            run_job(job)
        assert caught.value.message == (
            "none of 6 rows could be answered; 5 x missing_prompt: no 'prompt' among the fields ['question']"
        )
        assert "spec.dataset.promptField" in caught.value.remedy
        assert not (results / "_SUCCESS").exists()
        manifest = json.loads((results / "manifest-00000-of-00001.json").read_text())
        assert (manifest["rows"]["errors"], manifest["rows"]["skipped"]) == (6, skipped)
    status = render_status(read_status(Folder(results), time.time()))
    assert "failed: " in status
    assert "none of 6 rows could be answered; 5 x missing_prompt" in " ".join(status.split())
    summary = "\n".join(summary_lines(collect(results, io.BytesIO())))  # nothing is missing, and it can be looked into
    assert "0 results and 6 errors of 6 rows" in summary
    assert "no row was answered: the run has not succeeded" in summary


@pytest.mark.slow
def test_a_shard_of_bad_rows_alone_is_no_fault_where_another_has_answers(make_job, results):
    job = make_job([b"broken", ROWS[0], b"broken"], "job.completions=2")
    run_job(job, env={"JOB_COMPLETION_INDEX": "0"})
    run_job(job, env={"JOB_COMPLETION_INDEX": "1"})
    assert json.loads((results / "_SUCCESS").read_text()) == {"shards": 2, "results": 1, "errors": 2}


@pytest.mark.slow
@pytest.mark.parametrize("publish", [False, True])
def test_the_last_shard_to_end_finds_that_none_of_them_has_an_answer(make_job, results, tmp_path, publish):
    place = f"memory://answers-{uuid.uuid4()}"
    more = (f"results.publish={place}",) if publish else ()
    job = make_job(
        [{"prompt": None, "note": note} for note in "abc"], "dataset.promptField=prompt", "job.completions=4", *more
    )  # the fourth shard has no rows
    for index in range(3):
        run_job(job, env={"JOB_COMPLETION_INDEX": str(index)})
        if publish:
            (results).rename(tmp_path / f"volume-{index}")  # each pod has a volume of its own
    with pytest.raises(DatasetError, match=r"none of 3 rows could be answered; 3 x missing_prompt: no 'prompt'"):
        run_job(job, env={"JOB_COMPLETION_INDEX": "3"})
    assert not (results / "_SUCCESS").exists()
    assert not publish or "_SUCCESS" not in Folder(f"{place}/tiny").sizes()


@pytest.mark.slow
def test_a_dataset_that_grows_or_is_not_as_expected_ends_without_success_and_keeps_its_rows(
    make_job, results, tmp_path
):
    job = make_job(ROWS[:3], "dataset.expectRows=4")
    with pytest.raises(DatasetError, match=r"holds 3 rows, and dataset\.expectRows is 4"):
        run_job(job)
    assert len(read_lines(results)) == 3
    assert not (results / "_SUCCESS").exists()
    summary = run_job(make_job(ROWS[:3], "dataset.expectRows=3"))
    assert (summary.results, summary.skipped) == (0, 3)
    assert (results / "_SUCCESS").exists()


def test_a_damaged_table_is_refused_before_a_model_is_looked_for(make_job, results, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"PAR1\x15\x04")
    with pytest.raises(DatasetError, match="the Parquet file is damaged"):
        run_job(make_job(tmp_path / "rows.jsonl", "target.model=/not/there"))
    assert not results.exists()


def test_empty_dataset_is_refused_before_anything_is_loaded(make_job, results):
    with pytest.raises(DatasetError, match="holds no rows"):
        run_job(make_job([]))
    assert not results.exists()


@pytest.mark.slow
def test_dataset_that_breaks_off_saves_what_came_before(make_job, results, tmp_path):
    import gzip

    packed = gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in ROWS) + b" " * 3_000_000)
    (tmp_path / "rows.jsonl.gz").write_bytes(packed[:-10])
    with pytest.raises(DatasetError, match="ends in the middle"):
        run_job(make_job(tmp_path / "rows.jsonl.gz"))
    assert sorted(by_id(read_lines(results))) == sorted(row["id"] for row in ROWS)
    assert not (results / "_SUCCESS").exists()


@pytest.mark.parametrize("role", ["target", "drafter"])
def test_weights_that_lack_a_layer_end_the_run_before_a_row_is_decoded(make_job, results, pair, tmp_path, role):
    folder = shutil.copytree(pair[0], tmp_path / "lacks")
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if ".layers.1.mlp." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"3 tensors of the model missing \(model.layers.1.mlp.down") as caught:
        run_job(make_job(ROWS, f"{role}.model={folder}"))
    assert caught.value.exit_code == 66
    assert read_lines(results) == []
    assert not (results / "_SUCCESS").exists()


def test_models_with_different_vocabularies_are_refused_before_loading(make_job, tmp_path):
    other = save_model(tmp_path / "other", byte_level_tokenizer(300), layers=1, seed=3)
    with pytest.raises(VocabularyMismatchError):
        run_job(make_job(ROWS, f"drafter.model={other}"))


@pytest.mark.slow
def test_drafter_without_a_tokenizer_shares_the_targets_if_the_sizes_agree(make_job, tmp_path, tokenizer):
    same = save_model(tmp_path / "same", tokenizer, layers=1, seed=3)
    other = save_model(tmp_path / "other", byte_level_tokenizer(300), layers=1, seed=3)
    for folder in (same, other):
        for file in folder.glob("tokenizer*"):
            file.unlink()
    assert run_job(make_job(ROWS, f"drafter.model={same}")).drafted > 0
    with pytest.raises(VocabularyMismatchError, match="no tokenizer"):
        run_job(make_job(ROWS, f"drafter.model={other}"), fresh=True)


def test_gpus_that_are_not_there_are_refused_before_anything_is_loaded(make_job):
    import torch

    from specbatch.errors import DeviceError

    count = torch.cuda.device_count() + 1
    with pytest.raises(DeviceError, match="sees"):
        run_job(make_job(ROWS, f"placement.gpus={count}"))


def test_visible_gpus_are_shaped_from_what_the_driver_says(monkeypatch):
    from types import SimpleNamespace

    import torch

    from specbatch.runner.devices import visible_gpus

    properties = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=79 << 30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    shapes = visible_gpus(2, {"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"})
    assert [shape.memory_bytes for shape in shapes] == [79 << 30] * 2
    assert shapes[0].bandwidth == 3.35e12


def test_plan_that_does_not_fit_is_refused(make_job, monkeypatch):
    from specbatch.plan.gpus import cpu_shape

    monkeypatch.setattr("specbatch.runner.session.visible_gpus", lambda count, env: (cpu_shape(1 << 20),))
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        run_job(make_job(ROWS))


def test_placement_that_is_not_the_plans_is_refused(make_job, monkeypatch):
    from specbatch.errors import DeviceError

    monkeypatch.setattr("specbatch.runner.models.load.compare_with_actual", lambda placement, actual: ["x is on cpu"])
    with pytest.raises(DeviceError, match="where the plan puts it"):
        run_job(make_job(ROWS))


def test_missing_packages_name_the_extra(make_job, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "specbatch.runner.session", raising=False)
    monkeypatch.setitem(sys.modules, "specbatch.runner.session", None)
    with pytest.raises(ModelError, match=r"specbatch\[runner\]"):
        run_job(make_job(ROWS))


@pytest.mark.slow
def test_report_is_written_where_asked_for_and_its_failure_is_only_said(make_job, results, monkeypatch):
    stream = io.StringIO()
    run_job(make_job(ROWS, "results.report=true"), display=JsonDisplay(stream))
    assert (results / "report.html").is_file()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert events[-1]["event"] == "end"
    assert events[-1]["report"].endswith("report.html")
    assert [event["event"] for event in events if event["event"] == "progress"]

    def refuse(run_dir):
        raise ResultsError("matplotlib is not installed")

    monkeypatch.setattr("specbatch.runner.session.write_report", refuse)
    stream = io.StringIO()
    run_job(make_job(ROWS, "results.report=true"), display=JsonDisplay(stream))
    assert "no report" in stream.getvalue()
    assert '"report": null' in stream.getvalue()


@pytest.mark.slow
def test_disk_that_fails_ends_the_run_with_what_was_written(make_job, results, monkeypatch):
    from specbatch.results.shard.shard import ShardResults

    write = ShardResults.write

    def full(self, row):
        if self.written.results == 3:
            raise ResultsError("no space left", where="part")
        write(self, row)

    monkeypatch.setattr(ShardResults, "write", full)
    with pytest.raises(ResultsError, match="no space left"):
        run_job(make_job([{"id": f"r{number}", "prompt": "hello"} for number in range(300)]))
    monkeypatch.undo()
    assert len(read_lines(results)) == 3
    assert not (results / "_SUCCESS").exists()


@pytest.mark.slow
def test_spec_file_of_the_pod_runs_and_errors_leave_a_message(tmp_path, pair, capsys, monkeypatch):
    from specbatch.runner.__main__ import main

    rows = write_rows(tmp_path / "rows.jsonl", ROWS[:2])
    spec = tmp_path / "spec.yaml"
    spec.write_text(spec_text(pair, rows, tmp_path / "results"))
    assert main([str(spec)]) == 0
    spec.write_text(spec_text(pair, tmp_path / "none.jsonl", tmp_path / "results"))
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setenv("TERMINATION_LOG", str(log))
    assert main([str(spec)]) == 65
    assert json.loads(log.read_text())["meaning"] == "bad dataset"
    assert "error: " in capsys.readouterr().err
    assert main([]) == 64


@pytest.mark.slow
def test_what_is_published_is_what_is_here(make_job, results):
    uri = f"memory://{uuid.uuid4().hex}/runs"
    stream = io.StringIO()
    rows = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(60)]
    run_job(make_job(rows, f"results.publish={uri}/", "results.partSize=4Ki"), display=JsonDisplay(stream))
    here = {path.name: path.read_bytes() for path in results.iterdir()}
    there = Folder(f"{uri}/{results.name}")
    assert here.keys() == there.sizes().keys()
    assert len([name for name in here if name.startswith("part-")]) > 2
    for name, data in here.items():
        assert name.startswith("manifest") or there.read(name) == data
    last = [json.loads(line) for line in stream.getvalue().splitlines() if '"progress"' in line][-1]
    assert last["publish"]["destination"] == there.uri


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "environment", "threads"),
    [("auto", None, 1), (2, None, 2), ("auto", "2", 2)],
    ids=["auto", "the spec says so", "the user's environment says so"],
)
def test_a_model_too_small_for_several_threads_gets_one(make_job, monkeypatch, setting, environment, threads):
    import torch

    monkeypatch.setattr("specbatch.runner.environment.available_cores", lambda: 4)
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    if environment is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    run_job(make_job([{"prompt": "hello"}], f"placement.cpuThreads={setting}"))
    assert asked[-1] == threads
