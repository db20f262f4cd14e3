"""Datasets of Hugging Face: which files a configuration and a split are, in a folder, a clone and on a hub (a real server, the real client)."""

import io
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from specbatch.errors import DatasetError, OutOfReachError
from specbatch.runner.dataset.globs import matches
from specbatch.runner.dataset.repositories import Repository
from specbatch.runner.retry import Retrier
from tests.hub_server import COMMIT, point_at, serving_hub
from tests.runner.tiny import dataset_at
from tests.s3 import free_port

NAME = "org/name"
URI = f"hf://datasets/{NAME}"


def table(*prompts):
    parquet.write_table(pa.table({"prompt": list(prompts)}), file := io.BytesIO())
    return file.getvalue()


def stream(*prompts):
    made = pa.table({"prompt": list(prompts)})
    with pa.ipc.new_stream(file := io.BytesIO(), made.schema) as writer:
        writer.write_table(made)
    return file.getvalue()


def readme(yaml):
    return f"---\n{yaml}\n---\n# A dataset\n".encode()


def prompts(dataset):
    return [row.fields["prompt"] if row.fields else json.loads(row.data)["prompt"] for row in dataset.rows()]


def put(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


SHARDS = {
    "data/train-00000-of-00002.parquet": table("a"),
    "data/train-00001-of-00002.parquet": table("b"),
    "data/test-00000-of-00001.parquet": table("c"),
    "README.md": b"# A dataset",
    ".gitattributes": b"",
}
CONFIGS = readme(
    "configs:\n- config_name: main\n  data_files:\n  - {split: train, path: main/tr*.jsonl}\n  - {split: test, path: [main/test.jsonl]}\n"
    "- config_name: extra\n  data_files: extra/*.jsonl"
)
DESCRIBED = {
    "README.md": CONFIGS,
    **{f"{name}.jsonl": b'{"prompt": "%s"}\n' % name.encode() for name in ("main/train", "main/test", "extra/all")},
}
LAYOUTS = [
    (SHARDS, {"split": "train"}, ["a", "b"]),
    (SHARDS, {"split": "test"}, ["c"]),
    (DESCRIBED, {"config": "main", "split": "test"}, ["main/test"]),
    (DESCRIBED, {"config": "extra"}, ["extra/all"]),
    ({**DESCRIBED, "README.md": CONFIGS.replace(b"name: extra", b"name: extra\n  default: true")}, {}, ["extra/all"]),
    ({"README.md": readme("configs:\n- config_name: a\n  data_dir: x"), "x/dev.jsonl": b'{"prompt": "d"}', "y.jsonl": b"{}"}, {"split": "validation"}, ["d"]),
    ({"socratic/train-00000-of-00001.parquet": table("s"), "main/0.txt": b""}, {"split": "train"}, ["s"]),
    ({"default/train/0000.parquet": table("a"), "default/test/0000.parquet": table("b")}, {"split": "test"}, ["b"]),
    ({"one/train/0000.parquet": table("a"), "two/train/0000.parquet": table("b")}, {"config": "two"}, ["b"]),
]  # fmt: skip
SAVED = {
    "data-00000-of-00002.arrow": stream("a"),
    "data-00001-of-00002.arrow": stream("b"),
    "dataset_info.json": b"{}",
    "state.json": json.dumps({"_data_files": [{"filename": "data-00001-of-00002.arrow"}, {"filename": "data-00000-of-00002.arrow"}], "_split": "train"}).encode(),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("files", "named", "expected"), LAYOUTS)
def test_config_and_split_name_the_same_files_in_a_clone_and_on_the_hub(tmp_path, monkeypatch, files, named, expected):
    assert prompts(dataset_at(put(tmp_path / "clone", files), **named)) == expected
    with serving_hub(datasets={NAME: files}) as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        assert prompts(dataset_at(URI, **named)) == expected


def test_what_save_to_disk_wrote_is_read_in_the_order_of_its_state(tmp_path):
    assert prompts(dataset_at(put(tmp_path / "one", SAVED))) == ["b", "a"]
    both = {f"{split}/{name}": data for split in ("train", "test") for name, data in SAVED.items()}
    folder = put(tmp_path / "both", {**both, "dataset_dict.json": b'{"splits": ["train", "test"]}'})
    with pytest.raises(DatasetError, match="several splits: test, train"):
        dataset_at(folder)
    assert prompts(dataset_at(folder, split="test")) == ["b", "a"]
    (folder / "test" / "data-00000-of-00002.arrow").unlink()
    with pytest.raises(DatasetError, match=r"no such file, and the dataset's state.json names it"):
        dataset_at(folder, split="test")


@pytest.mark.parametrize(
    ("files", "named", "says"),
    [
        (SHARDS, {}, "several splits: test, train"),
        (SHARDS, {"split": "dev"}, "there is no split 'dev'; it has test, train"),
        (SHARDS, {"config": "main"}, "no configuration 'main'"),
        (DESCRIBED, {}, "several configurations: extra, main"),
        (DESCRIBED, {"config": "x"}, "there is no config 'x'; it has extra, main"),
        ({"README.md": readme("configs: [\n- x: {")}, {"split": "train"}, "the YAML at the beginning of README.md is damaged"),
        ({"README.md": readme("configs:\n- config_name: a\n  data_files: none.csv")}, {}, "split train has no files"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_an_error_that_lists_what_there_is(tmp_path, files, named, says):
    with pytest.raises(DatasetError, match=says) as caught:
        dataset_at(put(tmp_path / "clone", files), **named)
    assert caught.value.remedy


def test_a_plain_folder_stays_one_and_the_other_split_is_said_to_be_left_out(tmp_path):
    folder = put(
        tmp_path / "plain", {"a.jsonl": b'{"prompt": "a"}', "test.jsonl": b'{"prompt": "t"}', "README.md": b"x"}
    )
    assert prompts(dataset_at(folder)) == ["a", "t"]
    assert "data/test-00000-of-00001.parquet" not in dataset_at(put(tmp_path / "s", SHARDS), split="train").left_out
    assert "test-00000-of-00001.parquet (of split test)" in dataset_at(tmp_path / "s", split="train").left_out


@pytest.mark.parametrize(
    ("uri", "fields"),
    [
        ("a.jsonl", {"split": "train"}), ("s3://bucket/a", {"config": "x"}), ("a.jsonl", {"revision": "main"}), ("hf://org/name", {}),
        ("hf://datasets/name", {}), (f"{URI}/a.jsonl", {"split": "train"}), (f"{URI}@main", {"revision": "other"}),
    ],
)  # fmt: skip
def test_names_of_the_hub_where_they_mean_nothing_are_refused(tmp_path, monkeypatch, uri, fields):
    put(tmp_path, {"a.jsonl": b"{}"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError) as caught:
        dataset_at(uri, **fields)
    assert caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_path_folder_or_glob_in_a_repository_and_a_revision(tmp_path, monkeypatch, revision):
    with serving_hub(datasets={NAME: SHARDS}) as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        fields = {"revision": revision}
        assert prompts(dataset_at(f"{URI}/data/test-00000-of-00001.parquet", **fields)) == ["c"]
        assert prompts(dataset_at(f"{URI}/data/tr*", **fields)) == ["a", "b"]
        assert prompts(dataset_at(f"{URI}/data", **fields)) == ["c", "a", "b"]
        dataset = dataset_at(URI, split="test", **fields)
        assert [source.name for source in dataset.sources] == [f"{URI}/data/test-00000-of-00001.parquet"]
        assert dataset.fingerprint() == dataset_at(put(tmp_path / "c", SHARDS), split="test").fingerprint()
        with pytest.raises(DatasetError, match="no such file, folder or glob match"):
            dataset_at(f"{URI}/none.jsonl", **fields)


@pytest.mark.slow
def test_a_missing_gated_or_unreachable_dataset_is_named(tmp_path, monkeypatch):
    with serving_hub(datasets={NAME: SHARDS}) as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        server.error_headers = {"X-Error-Code": "RepoNotFound"}
        with pytest.raises(DatasetError, match="no such dataset on the hub, or it is private") as caught:
            dataset_at("hf://datasets/org/none")
        assert "HF_TOKEN" in caught.value.remedy
        dataset = dataset_at(URI, split="test")
        server.always, server.error_headers = 403, {"X-Error-Code": "GatedRepo"}
        with pytest.raises(DatasetError, match="the dataset is gated") as caught:
            dataset.check_readable()
        assert "HF_TOKEN" in caught.value.remedy
    point_at(f"http://127.0.0.1:{free_port()}", monkeypatch, tmp_path / "cache")
    with pytest.raises(OutOfReachError):
        dataset_at(URI, Retrier(0.2))


def test_offline_a_dataset_is_that_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetError, match="not in the hub's cache") as caught:
        dataset_at(URI)
    assert "hf download --repo-type dataset org/name" in caught.value.remedy
    cache = tmp_path / "datasets--org--name"
    put(cache, {"refs/main": COMMIT.encode(), **{f"snapshots/{COMMIT}/{name}": data for name, data in SHARDS.items()}})
    assert prompts(dataset_at(URI, split="train")) == ["a", "b"]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("data/*.parquet", "data/a.parquet", True), ("data/*.parquet", "data/x/a.parquet", False), ("**/*.csv", "a.csv", True),
        ("**/*.csv", "x/y/a.csv", True), ("{a,b}/[0-9]?.txt", "b/1x.txt", True), ("[!a].txt", "a.txt", False), ("a.txt", "aXtxt", False),
    ],
)  # fmt: skip
def test_globs_within_repositories(pattern, name, expected):
    assert matches(name, pattern) is expected


def test_a_repository_without_rows_says_so():
    with pytest.raises(DatasetError, match="no files of rows"):
        Repository("x", ["load.py", "a.zip"], lambda _: b"").choose(None, None)
