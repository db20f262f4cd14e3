"""An image without an engine: the archive is what an OCI layout and docker load want, and holds what went in."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile

import pytest

from tests.documents import text_of
from tools.oci_archive import layer_of, write_archive
from tools.oci_image import check_python, how_it_runs

TAG = "example.com/specbatch:1.2"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "proc/1").mkdir(parents=True)
    program = folder / "usr/bin/su"
    program.write_text("program")
    program.chmod(0o4755)
    os.link(program, folder / "usr/bin/same")
    (folder / "bin").symlink_to("usr/bin")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture
def image(root, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/main.py").write_text("print()")
    layers = [
        layer_of(root, "", tmp_path / "0", made_by="system", keep=lambda path: not path.startswith("proc/")),
        layer_of(tmp_path / "app", "opt/app", tmp_path / "1", made_by="app"),
    ]
    output = tmp_path / "image.tar"
    digest = write_archive(
        output, layers, tag=TAG, run=how_it_runs("runner"), created="2026-01-01T00:00:00Z", machine="amd64"
    )
    return output, digest


def read(archive, name):
    return archive.extractfile(name).read()


def members_of(layer):
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        return {member.name: member for member in archive}


def test_every_blob_is_named_by_its_content_and_the_index_leads_to_all_of_them(image):
    output, digest = image
    with tarfile.open(output) as archive:
        blobs = {name for name in archive.getnames() if name.startswith("blobs/")}
        for name in blobs:
            assert hashlib.sha256(read(archive, name)).hexdigest() == name.rpartition("/")[2]
        (entry,) = json.loads(read(archive, "index.json"))["manifests"]
        assert entry["digest"] == digest
        assert entry["annotations"]["io.containerd.image.name"] == TAG
        manifest = json.loads(read(archive, f"blobs/sha256/{digest.removeprefix('sha256:')}"))
        parts = [entry, manifest["config"], *manifest["layers"]]
        assert {f"blobs/sha256/{one['digest'].removeprefix('sha256:')}" for one in parts} == blobs
        assert all(
            one["size"] == archive.getmember(f"blobs/sha256/{one['digest'].removeprefix('sha256:')}").size
            for one in parts
        )


def test_docker_load_finds_the_same_image(image):
    output, _ = image
    with tarfile.open(output) as archive:
        (entry,) = json.loads(read(archive, "manifest.json"))
        config = json.loads(read(archive, entry["Config"]))
        assert entry["RepoTags"] == [TAG]
        diff_ids = [f"sha256:{hashlib.sha256(read(archive, layer)).hexdigest()}" for layer in entry["Layers"]]
    assert config["rootfs"] == {"type": "layers", "diff_ids": diff_ids}
    assert len(config["history"]) == len(diff_ids)


def test_layers_hold_what_went_in_as_roots_and_without_setuid(image):
    output, _ = image
    with tarfile.open(output) as archive:
        (entry,) = json.loads(read(archive, "manifest.json"))
        system, app = (members_of(read(archive, layer)) for layer in entry["Layers"])
    assert system.keys() == {"bin", "proc", "usr", "usr/bin", "usr/bin/su", "usr/bin/same"}
    assert system["bin"].linkname == "usr/bin"
    assert {system["usr/bin/su"].islnk(), system["usr/bin/same"].islnk()} == {True, False}
    assert system["usr/bin/su"].mode == 0o755
    assert {(member.uid, member.gid) for member in system.values()} == {(0, 0)}
    assert list(app) == ["opt", "opt/app", "opt/app/main.py"]


@pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo")
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_skopeo_reads_it_in_both_forms(image, form):
    output, _ = image
    done = subprocess.run(["skopeo", "inspect", f"{form}:{output}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["Os"] == "linux"


def test_the_image_runs_as_the_dockerfile_says():
    text, run = text_of("Dockerfile"), how_it_runs("runner")
    assert f"USER {run['User']}\n" in text
    assert f"WORKDIR {run['WorkingDir']}\n" in text
    assert f"ENTRYPOINT {json.dumps(run['Entrypoint'])}" in text
    stages = [stage for stage in text.split("\nFROM ") if re.search(r"^\S+ AS (base|runner)\n", stage)]
    assert len(stages) == 2
    for stage in stages:
        words = re.search(r"^ENV (.*?[^\\])\n", stage, re.DOTALL | re.MULTILINE)[1].replace("\\\n", " ").split()
        assert {word for word in words if not word.startswith("PATH=")} <= set(run["Env"])


def test_another_python_than_this_one_is_refused(tmp_path):
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3.4").touch()
    with pytest.raises(SystemExit, match=r"has python3\.4, and this is"):
        check_python(tmp_path)
