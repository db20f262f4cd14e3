"""What makes a restart another run, beside its spec; and the one time that a template is shown."""

import json
import shutil

import pytest

from specbatch.errors import ModelError, OtherRunError, ResultsError
from specbatch.results.manifest import read_manifests
from specbatch.runner.job import run_job
from specbatch.runner.verify.verify import verify_run

ROWS = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(4)]
CLOCK = "{%- for m in messages -%}{{ m.content }} at {{ strftime_now('%H:%M:%S') }}{%- endfor -%}"


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "tiny"


@pytest.fixture
def target(pair, tmp_path):
    return shutil.copytree(pair[0], tmp_path / "target")


def loads_nothing(monkeypatch):
    monkeypatch.setattr("specbatch.runner.engine_set.load_engines", None)


def append(path):
    with path.open("a") as file:
        file.write("\n")


@pytest.mark.slow
@pytest.mark.parametrize("publish", [False, True])
def test_a_restart_with_another_tokenizer_template_or_generation_config_is_refused_by_name(
    make_job, results, target, tmp_path, monkeypatch, publish
):
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0].content }}")
    places = [f"results.publish=file://{tmp_path}/bucket/"] if publish else []
    job = make_job(ROWS, f"target.model={target}", f"dataset.chatTemplate={template}", *places)
    run_job(job)
    if publish:
        shutil.rmtree(results)  # the volume is lost: what is published says what the run was
    loads_nothing(monkeypatch)
    files = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]
    for path, name in [*((target / name, f"target/{name}") for name in files), (template, "dataset.chatTemplate")]:
        before = path.read_bytes()
        append(path)
        with pytest.raises(OtherRunError, match=f"content of {name}: ") as refused:
            run_job(job)
        assert len(refused.value.message.splitlines()) == 2, "the one that changed alone is named"
        path.write_bytes(before)
    moved = shutil.move(target, tmp_path / "elsewhere")
    (target.parent / target.name).symlink_to(moved)
    assert run_job(job).skipped == len(ROWS), "the same content in another place is the same"


@pytest.mark.slow
def test_verify_names_the_file_that_is_not_the_runs(make_job, results, target):
    run_job(make_job(ROWS, f"target.model={target}"))
    append(target / "generation_config.json")
    with pytest.raises(ModelError, match=r"not as in the run: content of target/generation_config\.json"):
        verify_run(results)


@pytest.mark.slow
def test_a_template_that_reads_the_clock_shows_one_time_in_every_shard_restart_and_in_verify(
    make_job, results, tmp_path, monkeypatch
):
    template = tmp_path / "t.jinja"
    template.write_text(CLOCK)
    job = make_job(ROWS, f"dataset.chatTemplate={template}", "job.completions=2")
    first, later = ({"JOB_COMPLETION_INDEX": "0"}, {"JOB_COMPLETION_INDEX": "1"})
    run_job(job, env={**first, "SPECBATCH_INSTANT": "2026-11-28T23:59:59+00:00"})
    run_job(job, env={**later, "SPECBATCH_INSTANT": "2026-11-29T00:00:01+00:00"})
    run_job(job, env={**first, "SPECBATCH_INSTANT": "2026-11-30T00:00:01+00:00"})
    manifests = read_manifests(results)
    assert [one.identity.instant for one in manifests] == ["2026-11-28T23:59:59+00:00"] * 2
    found = verify_run(results)
    assert (found.exact, found.unexplained, found.changed) == (len(ROWS), 0, 0)
    for path in results.glob("manifest-*.json"):  # as an older release left them
        value = json.loads(path.read_text())
        del value["identity"]["instant"]
        path.write_text(json.dumps(value))
    with pytest.raises(ResultsError, match="did not keep what it showed"):
        verify_run(results)


@pytest.mark.slow
def test_without_fresh_the_time_stays_and_with_fresh_it_is_a_new_one(make_job, results, tmp_path):
    (tmp_path / "t.jinja").write_text(CLOCK)
    job = make_job(ROWS[:1], f"dataset.chatTemplate={tmp_path}/t.jinja")

    def instant(day, **options):
        run_job(job, env={"SPECBATCH_INSTANT": f"2026-11-{day}T12:00:00+00:00"}, **options)
        return read_manifests(results)[0].identity.instant[:10]

    assert [instant(27), instant(28), instant(29, fresh=True)] == ["2026-11-27", "2026-11-27", "2026-11-29"]
