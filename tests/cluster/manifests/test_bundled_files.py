"""Bundled files, and what is wrong with those that cannot be."""

from __future__ import annotations

import base64
import gzip

import pytest

from specbatch.cluster.manifests.bundled_files import MAX_BYTES, read_files
from specbatch.errors import SpecError
from tests.cluster.rendering import container, job, problems, rendered

ROWS = "{dataset: {uri: my/rows.jsonl}}"


def unread(spec, folder):
    with pytest.raises(SpecError) as caught:
        read_files(job(spec=spec), folder)
    (problem,) = caught.value.problems
    return problem


def test_a_relative_dataset_is_mounted_under_its_own_path(tmp_path):
    (tmp_path / "my").mkdir()
    (tmp_path / "my/rows.jsonl").write_text("row\n")
    files = read_files(job(spec=ROWS), tmp_path)
    made = rendered(spec=ROWS, files=files)
    assert files == {"my/rows.jsonl": b"row\n"}
    assert made.config_map["data"]["dataset-rows.jsonl"] == "row\n"
    assert {
        "name": "spec",
        "mountPath": "/my/rows.jsonl",
        "subPath": "dataset-rows.jsonl",
        "readOnly": True,
    } in container(made)["volumeMounts"]


@pytest.mark.parametrize("uri", ["s3://bucket/rows.jsonl", "/data/rows.jsonl", "https://example.com/x"])
def test_what_pods_can_reach_is_not_bundled(uri, tmp_path):
    assert read_files(job(spec=f"{{dataset: {{uri: '{uri}'}}}}"), tmp_path) == {}


def test_dataset_and_chat_template_of_any_name_are_bundled_side_by_side():
    spec = "{dataset: {uri: spec.json, chatTemplate: x/spec.json}}"
    data = rendered(spec=spec, files={"spec.json": b"rows", "x/spec.json": b"template"}).config_map["data"]
    assert data["dataset-spec.json"] == "rows"
    assert data["template-spec.json"] == "template"
    assert '"uri": "spec.json"' in data["spec.json"]


def test_the_name_of_a_tokenizers_template_is_no_bundled_file(tmp_path):
    assert read_files(job(spec="{dataset: {uri: 's3://b/x', chatTemplate: tool_use}}"), tmp_path) == {}
    (tmp_path / "tool_use").write_text("template")
    spec = "{dataset: {uri: 's3://b/x', chatTemplate: ./tool_use}}"
    assert read_files(job(spec=spec), tmp_path) == {"tool_use": b"template"}


@pytest.mark.parametrize("name", ["..rows", "a b,é.jsonl", "x" * 250])
def test_keys_are_what_a_config_map_allows(name):
    made = rendered(spec=f"{{dataset: {{uri: '{name}'}}}}", files={name: b""})
    (key,) = made.config_map["data"].keys() - {"spec.json"}
    assert len(key) <= 253
    assert all(letter.isascii() and (letter.isalnum() or letter in "-._") for letter in key)


@pytest.mark.parametrize(
    ("name", "content"), [("rows.jsonl.gz", gzip.compress(b"row", mtime=0)), ("rows.jsonl", "\ufeffrow\x92".encode())]
)
def test_compressed_files_and_what_yaml_cannot_hold_are_bundled_as_bytes(name, content):
    made = rendered(spec=f"{{dataset: {{uri: {name}}}}}", files={name: content})
    assert base64.b64decode(made.config_map["binaryData"][f"dataset-{name}"]) == content
    assert made.config_map["data"].keys() == {"spec.json"}


def test_a_missing_file_is_named_with_the_folder_it_was_looked_for_in(tmp_path):
    problem = unread(ROWS, tmp_path)
    assert problem.path == "spec.dataset.uri"
    assert problem.message == f"my/rows.jsonl is not here, in {tmp_path}"
    assert "s3://" in problem.remedy


def test_folders_globs_and_files_outside_are_not_bundled(tmp_path):
    (tmp_path / "my").mkdir()
    assert "is a folder" in unread("{dataset: {uri: my}}", tmp_path).message
    assert "is a glob" in unread("{dataset: {uri: 'my/*.jsonl'}}", tmp_path).message
    assert "outside of the current directory" in unread("{dataset: {uri: my/../../x}}", tmp_path).message


def test_a_file_that_fits_no_config_map_is_refused_with_its_size(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"x" * (MAX_BYTES + 1))
    assert "900,001 bytes" in unread("{dataset: {uri: rows.jsonl}}", tmp_path).message


def test_files_that_only_together_fit_no_config_map_are_refused(tmp_path):
    for name in ("rows.jsonl", "chat.jinja"):
        (tmp_path / name).write_bytes(b"x" * (MAX_BYTES // 2 + 1))
    assert "900,002 bytes" in unread("{dataset: {uri: rows.jsonl, chatTemplate: chat.jinja}}", tmp_path).message


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"good\nbad\xff\n")
    assert "not UTF-8 text (line 2)" in unread("{dataset: {uri: rows.jsonl}}", tmp_path).message


def test_a_file_of_this_machine_by_its_absolute_path_is_the_usual_mistake(tmp_path):
    (tmp_path / "rows.jsonl").touch()
    (problem,) = problems(spec=f"{{dataset: {{uri: {tmp_path}/rows.jsonl}}}}")
    assert "is a file of this machine" in problem.message


def test_a_file_is_not_mounted_into_a_read_only_volume():
    (problem,) = problems(
        "volumes: {results: {claimName: r}, data: {claimName: d}}", spec="{dataset: {uri: data/rows.jsonl}}"
    )
    assert (
        problem.message == "data/rows.jsonl would be /data/rows.jsonl in the pod, and /data is a read-only volume there"
    )
    assert "give /data/rows.jsonl" in problem.remedy
