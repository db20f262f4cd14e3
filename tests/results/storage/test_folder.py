import uuid

import pytest

from specbatch.errors import ResultsError
from specbatch.results.storage.folder import Folder


@pytest.fixture(params=["path", "file", "memory"])
def uri(request, tmp_path):
    return {
        "path": str(tmp_path / "runs" / "nightly"),
        "file": f"file://{tmp_path}/runs/nightly",
        "memory": f"memory://{uuid.uuid4().hex}/nightly",
    }[request.param]


def test_what_is_written_or_copied_in_is_listed_and_read_back(uri, tmp_path):
    folder = Folder(uri)
    assert folder.name == "nightly"
    assert folder.sizes() == {}
    (tmp_path / "source").write_bytes(b"a\nb\n")
    folder.put("part-00000-of-00001.jsonl", tmp_path / "source")
    folder.write("_SUCCESS", b"{}")
    folder.child("figures").write("k.png", b"png")
    assert folder.sizes() == {"part-00000-of-00001.jsonl": 4, "_SUCCESS": 2}
    assert folder.read("_SUCCESS") == b"{}"
    with folder.open("part-00000-of-00001.jsonl") as stream:
        assert list(stream) == [b"a\n", b"b\n"]
    assert folder.child("figures").read("k.png") == b"png"


def test_writing_again_replaces_and_removing_twice_is_fine(uri):
    folder = Folder(uri)
    folder.write("a", b"old")
    folder.write("a", b"new")
    assert folder.read("a") == b"new"
    folder.remove("a")
    folder.remove("a")
    assert folder.sizes() == {}


def test_a_missing_file_is_one_error_with_its_place_and_a_remedy(uri):
    for read in (Folder(uri).read, Folder(uri).open):
        with pytest.raises(ResultsError, match=r"nightly/manifest: cannot (read|open) the file") as caught:
            read("manifest")
        assert caught.value.remedy


def test_a_copy_that_fails_leaves_the_old_content_and_no_litter(tmp_path):
    folder = Folder(tmp_path / "store")
    folder.write("a", b"old")
    with pytest.raises(ResultsError, match="cannot copy the file"):
        folder.put("a", tmp_path / "missing")
    assert folder.sizes() == {"a": 3}


@pytest.mark.parametrize(
    ("uri", "remedy"), [("gs://bucket/x", r"pip install 'specbatch\[gcs\]'"), ("nope://x/y", "driver of nope://")]
)
def test_a_store_without_its_driver_says_how_to_install_it(uri, remedy):
    with pytest.raises(ResultsError, match=remedy):
        Folder(uri)


def test_whatever_a_driver_raises_becomes_one_kind_of_error(monkeypatch):
    folder = Folder("memory://bucket/run")

    def fail(*arguments, **options):
        raise PermissionError("Access\n  Denied")

    monkeypatch.setattr(folder._store.driver, "ls", fail)
    with pytest.raises(ResultsError, match=r"memory://bucket/run/: cannot list the folder: Access Denied") as caught:
        folder.sizes()
    assert "credentials" in caught.value.remedy
