"""Runs of the tiny pair, replayed with the target alone."""

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from specbatch.errors import DatasetError, ModelError, OutOfMemoryError, ResultsError, SpecError, StoppedError
from specbatch.results.manifest import read_manifests
from specbatch.results.storage.typed import as_type
from specbatch.results.verification import Verification, render_verification
from specbatch.runner.job import run_job
from specbatch.runner.verify.verify import alone, verify_run
from tests.runner.tiny import read_lines, write_rows

pytestmark = pytest.mark.slow  # whole runs, decoded twice

ROWS = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(12)]
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9, "temperature": 0.7, "seed": 5}
MIXED = [
    *ROWS[:4],
    {"id": "short", "prompt": "hello world", "max_tokens": 3},
    {"id": "one", "prompt": "hello world", "max_tokens": 1},
    {"id": "stopped", "prompt": "hello 2", "max_tokens": 40, "stop": ["C", "br", "\N{GRINNING FACE}"]},
    {"id": "sampled", "prompt": "hello 3", "temperature": 1.3, "top_k": 20, "top_p": 0.9, "seed": 8, "max_tokens": 40},
    {"id": "endless", "prompt": "hello 4", "ignore_eos": True, "max_tokens": 40},
    b"broken",
    {"custom_id": "batch", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "target", **CHAT}},
    *ROWS[4:7],
]
DRAFTERS = {
    "a model": (),
    "n-gram": ("drafter.method=ngram", "drafter.model=null"),
    "none": ("drafter=null", "decoding.numSpeculativeTokens=auto"),
}


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "tiny"


def counts(found):
    return {
        name: getattr(found, name) for name in ("exact", "ties", "unexplained", "not_replayable", "changed")
        if getattr(found, name)
    }  # fmt: skip


def rewrite(results, change):
    """Applies change(lines by id) to the part file."""
    path = results / "part-00000-of-00001.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    change({line["id"]: line for line in lines if "id" in line})
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("temperature", [0, 0.9])
def test_an_honest_run_is_exact(make_job, results, drafter, temperature):
    run_job(make_job(MIXED, f"decoding.temperature={temperature}", *DRAFTERS[drafter]))
    found = verify_run(results, 50)
    assert counts(found) == {"exact": 13}
    assert (found.finished, found.sampled, found.scores) == (13, 13, "")
    assert found.verdict == "exactly what the target alone gives: every one of 13 rows"
    reasons = {line.get("finish_reason") for line in read_lines(results)}
    assert {"stop", "length"} <= reasons
    assert found.target_only_tokens == sum(manifest.totals.completion_tokens for manifest in read_manifests(results))
    assert found.target_only_rows == 13
    assert found.target_only_tokens_per_second > 0
    assert found.max_sequences == 4


def other_character(lines):
    text = lines["r3"]["text"]
    at = next(at for at, character in enumerate(text) if character.isascii() and at)
    lines["r3"]["text"] = text[:at] + "~" + text[at + 1 :]


def other_reason(lines):
    lines["r3"]["finish_reason"] = "stop"


def cut_short(lines):
    lines["r3"]["text"] = lines["r3"]["text"][:-4]


def cut_short_with_its_count(lines):
    cut_short(lines)
    lines["r3"]["usage"]["completion_tokens"] -= 2


def longer(lines):
    lines["r3"]["text"] += " and more"


def another_count(lines):
    lines["r3"]["usage"]["completion_tokens"] += 1


def swapped(lines):
    lines["r3"]["text"] = lines["r4"]["text"]


def nothing_left(lines):
    lines["r3"]["text"] = ""


@pytest.mark.parametrize("temperature", [0, pytest.param(0.8, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "tamper",
    [other_character, other_reason, cut_short, cut_short_with_its_count, longer, another_count, swapped, nothing_left],
)
def test_a_tampered_row_is_unexplained_and_named(make_job, results, tamper, temperature):
    run_job(make_job(ROWS[:6], f"decoding.temperature={temperature}"))
    rewrite(results, tamper)
    found = verify_run(results)
    assert counts(found) == {"exact": 5, "unexplained": 1}
    assert [(one.id, one.index, one.kind) for one in found.divergences] == [("r3", 3, "unexplained")]
    assert found.scores == "float32"
    assert found.verdict.startswith("NOT what the target alone gives: 1 of 6 rows")
    shown = render_verification(found, name="tiny")
    assert "r3 (index 3), token " in shown


def test_rows_of_a_wrong_target_are_unexplained(make_job, results, monkeypatch):
    from specbatch.runner.models import load as models

    load = models.load_causal_lm

    def wrong(path, **arguments):
        model = load(path, **arguments)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.model.parameters():
                weight.add_(0.05 * weight.std() * torch.randn(weight.shape, generator=generator))
        return model

    monkeypatch.setattr(models, "load_causal_lm", wrong)
    run_job(make_job(ROWS))
    monkeypatch.undo()
    found = verify_run(results)
    assert found.unexplained >= 6
    assert found.exact + found.unexplained + found.ties == 12
    assert all(one.margin is None or one.margin > one.bound for one in found.divergences if one.kind == "unexplained")


def make_twin(folder, tokenizer, scale):
    """Gives the token "Q" the embedding and `scale` times the head of "C", which the tiny target likes."""
    weights = load_file(folder / "model.safetensors")
    twin, liked = (tokenizer.get_vocab()[letter] for letter in "QC")
    weights["model.embed_tokens.weight"][twin] = weights["model.embed_tokens.weight"][liked]
    weights["lm_head.weight"][twin] = weights["lm_head.weight"][liked] * scale
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("temperature", [0, pytest.param(0.7, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("scale", "kind"), [(1.0, "tie"), (1 - 1e-7, "tie"), (0.99, "unexplained")])
def test_a_token_as_good_as_the_targets_own_is_a_tie(
    make_job, results, pair, tokenizer, tmp_path, scale, kind, temperature
):
    target = shutil.copytree(pair[0], tmp_path / "target")
    make_twin(target, tokenizer, scale)
    sampled = ("decoding.topK=1",) if temperature else ()
    run_job(make_job(ROWS, f"target.model={target}", f"decoding.temperature={temperature}", *sampled))
    assert counts(verify_run(results)) == {"exact": 12}
    changed = []

    def use_the_twin(lines):
        for line in lines.values():
            if "C" in line["text"]:
                line["text"] = line["text"].replace("C", "Q", 1)
                changed.append(line["id"])

    rewrite(results, use_the_twin)
    assert len(changed) > 2
    found = verify_run(results)
    assert sorted(one.id for one in found.divergences) == sorted(changed)
    assert {one.kind for one in found.divergences} == {kind}
    if not temperature:  # top-k 1 takes either of two that are alike
        assert {one.recorded for one in found.divergences} == {"Q"}
        assert {one.target for one in found.divergences} == {"C"}
    if kind == "tie":
        assert all(one.margin <= 1e-4 == one.bound for one in found.divergences)
        assert "up to near ties" in found.verdict
    else:
        assert all(one.margin > 1e-3 for one in found.divergences)


@pytest.mark.parametrize("sampling", [(), ("decoding.temperature=0.9", "decoding.topP=0.9")], ids=["greedy", "sampled"])
def test_a_run_in_bfloat16_has_nothing_unexplained(make_job, results, sampling):
    rows = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(40)]
    run_job(make_job(rows, "target.dtype=bfloat16", "drafter.dtype=bfloat16", *sampling))
    found = verify_run(results, overrides=["batching.maxSequences=1"])  # other shapes round apart
    assert found.exact + found.ties == 40
    assert found.dtype == "bfloat16"
    rewrite(results, swapped)
    tampered = verify_run(results)
    assert [one.id for one in tampered.divergences if one.kind == "unexplained"] == ["r3"]
    assert tampered.scores == "float32"


def test_sampled_rows_of_the_rejection_rule_are_not_replayable_greedy_ones_are(make_job, results):
    rows = [*ROWS[:5], {"id": "greedy", "prompt": "hello", "temperature": 0}]
    run_job(make_job(rows, "decoding.temperature=0.8", "decoding.acceptanceRule=rejection"))
    found = verify_run(results)
    assert counts(found) == {"exact": 1, "not_replayable": 5}
    assert "5: drawn under acceptanceRule: rejection" in render_verification(found)


def test_without_a_drafter_the_rejection_rule_has_nothing_to_reject(make_job, results):
    run_job(make_job(ROWS[:5], "decoding.temperature=0.8", "decoding.acceptanceRule=rejection", *DRAFTERS["none"]))
    assert counts(verify_run(results)) == {"exact": 5}


def test_rows_that_changed_in_the_dataset_are_said_and_not_judged(make_job, results, tmp_path):
    run_job(make_job(ROWS[:6]))
    changed = [*ROWS[:2], {**ROWS[2], "prompt": "other"}, {**ROWS[3], "id": "renamed"}, b"broken"]
    write_rows(tmp_path / "rows.jsonl", changed)
    found = verify_run(results)
    assert counts(found) == {"exact": 2, "changed": 4}
    assert [line.partition(":")[0] for line in found.changed_rows] == ["r2", "r3", "r4", "r5"]
    assert "r2: its prompt or decoding has changed" in render_verification(found)
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "nothing of it"}])
    with pytest.raises(DatasetError, match="none of the 6 sampled rows"):
        verify_run(results)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(DatasetError):
        verify_run(results)


def test_a_dataset_and_a_target_that_were_moved_are_named_anew(make_job, results, pair, tmp_path):
    target = shutil.copytree(pair[0], tmp_path / "before")
    run_job(make_job(ROWS[:3], f"target.model={target}"))
    target.rename(tmp_path / "after")
    (tmp_path / "rows.jsonl").rename(tmp_path / "moved.jsonl")
    with pytest.raises(ModelError):
        verify_run(results, overrides=[f"dataset.uri={tmp_path}/moved.jsonl"])
    moved = [f"target.model={tmp_path}/after", f"dataset.uri={tmp_path}/moved.jsonl"]
    assert counts(verify_run(results, overrides=moved)) == {"exact": 3}


def test_another_target_is_refused(make_job, results, pair):
    run_job(make_job(ROWS[:3]))
    with pytest.raises(ModelError, match="the run's target was"):
        verify_run(results, overrides=[f"target.model={pair[1]}"])


@pytest.mark.parametrize("override", ["decoding.temperature=1", "batching.maxLength=64", "target.dtype=bfloat16"])
def test_an_override_that_changes_the_rows_is_refused(make_job, results, override):
    run_job(make_job(ROWS[:3]))
    with pytest.raises(SpecError, match="changes what the rows are"):
        verify_run(results, overrides=[override])


def test_the_target_takes_over_the_drafters_gpus_and_the_runs_batch_size(make_job, results):
    run_job(make_job(ROWS[:3]))
    manifest = read_manifests(results)[0]
    spec = manifest.spec["spec"]
    spec["placement"] |= {"gpus": 4, "strategy": "multi_gpu_ratio", "ratio": {"target": 3, "drafter": 1}}
    spec["batching"]["maxSequences"] = "auto"
    job = alone(manifest).spec
    assert (job.drafter, job.placement.gpus, job.placement.strategy, job.placement.ratio) == (None, 4, "auto", None)
    assert job.batching.max_sequences == 4


def test_a_target_that_does_not_fit_is_refused(make_job, results, monkeypatch):
    from specbatch.plan.gpus import cpu_shape

    run_job(make_job(ROWS[:3]))
    monkeypatch.setattr("specbatch.runner.verify.replay.visible_gpus", lambda count, env: (cpu_shape(1 << 20),))
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        verify_run(results)


def test_a_run_of_another_recipe_is_refused(make_job, results):
    run_job(make_job(ROWS[:3]))
    path = results / "manifest-00000-of-00001.json"
    path.write_text(path.read_text().replace("streams 1", "streams 0"))
    with pytest.raises(ResultsError, match="draws tokens differently"):
        verify_run(results)


def test_without_finished_rows_there_is_nothing_to_verify(make_job, results, monkeypatch):
    with pytest.raises(DatasetError, match="none of 2 rows could be answered"):
        run_job(make_job([b"broken", {"id": "empty", "prompt": ""}]))
    monkeypatch.setattr(
        "specbatch.runner.verify.verify._import_replay", lambda threads: pytest.fail("torch was imported")
    )
    found = verify_run(results)
    assert (found.finished, found.sampled, counts(found)) == (0, 0, {})
    assert found.verdict == "nothing to verify: the run has no finished rows"
    assert read_manifests(results)[0].verification["verdict"] == found.verdict


def test_a_directory_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="no manifest"):
        verify_run(tmp_path)
    with pytest.raises(ResultsError, match="no manifest"):
        verify_run(tmp_path / "missing")


def test_a_damaged_part_file_is_refused_and_a_torn_last_line_is_no_row(make_job, results):
    run_job(make_job(ROWS[:3]))
    part = results / "part-00000-of-00001.jsonl"
    data = part.read_bytes()
    part.write_bytes(data + data[:30])
    assert counts(verify_run(results)) == {"exact": 3}
    part.write_bytes(data[:10] + b"\n" + data)
    with pytest.raises(ResultsError, match="line 1 is no result row"):
        verify_run(results)


def test_the_certificate_is_in_every_shards_manifest_and_all_else_there_is_as_before(make_job, results):
    job = make_job(ROWS, "job.completions=2")
    for index in range(2):
        run_job(job, env={"JOB_COMPLETION_INDEX": str(index)})
    paths = sorted(results.glob("manifest-*.json"))
    before = [path.read_text() for path in paths]
    found = verify_run(results, 7, seed=3)
    assert counts(found) == {"exact": 7}
    assert found.finished == 12
    for path, old in zip(paths, before, strict=True):
        manifest = json.loads(path.read_text())
        assert as_type(manifest["verification"], Verification) == found
        manifest["verification"] = None
        manifest["written_at"] = json.loads(old)["written_at"]
        assert json.dumps(manifest, indent=1) + "\n" == old


def test_the_same_seed_finds_the_same_whatever_order_rows_finished_in(make_job, results):
    run_job(make_job(ROWS))
    rewrite(results, lambda lines: [line.update(text="no") for line in lines.values()])

    def timeless(found):
        value = found.to_json()
        for name in ("target_only_tokens_per_second", "target_only_seconds", "verified_at"):
            del value[name]
        return value

    first = timeless(verify_run(results, 5, seed=1))
    part = results / "part-00000-of-00001.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    (results / "part-00000-of-00001.jsonl").write_bytes(b"".join(lines[:4]))
    (results / "part-00000-of-00001-00001.jsonl").write_bytes(b"".join(lines[4:]))
    assert timeless(verify_run(results, 5, seed=1)) == first
    other = timeless(verify_run(results, 5, seed=2))
    assert [one["id"] for one in other["divergences"]] != [one["id"] for one in first["divergences"]]


def test_a_restart_keeps_the_certificate_until_it_writes_a_row(make_job, results):
    job = make_job(ROWS[:4])
    run_job(job)
    found = verify_run(results)
    run_job(job)
    assert as_type(read_manifests(results)[0].verification, Verification) == found
    (results / "part-00000-of-00001.jsonl").unlink()
    run_job(job)
    assert read_manifests(results)[0].verification is None
    verify_run(results)
    run_job(job, fresh=True)
    assert read_manifests(results)[0].verification is None


def test_told_to_stop_nothing_is_written(make_job, results, monkeypatch):
    import os
    import signal

    run_job(make_job(ROWS[:3]))
    before = (results / "manifest-00000-of-00001.json").read_bytes()
    handler = signal.getsignal(signal.SIGINT)

    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal came too late")

    monkeypatch.setattr("specbatch.runner.verify.replay.find_prompts", interrupted)
    with pytest.raises(StoppedError, match="no certificate was written"):
        verify_run(results)
    assert (results / "manifest-00000-of-00001.json").read_bytes() == before
    assert signal.getsignal(signal.SIGINT) is handler
