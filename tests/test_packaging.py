"""What people install: the wheel holds everything it needs, the base install needs no torch, development is pinned."""

import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest

from tests.documents import ROOT, text_of

# Everything that only the extra `runner` brings.
RUNNER_ONLY = (
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "tokenizers",
    "huggingface_hub",
    "gguf",
    "matplotlib",
    "numpy",
    "zstandard",
    "pyarrow",
)

# Runs where the wheel lies: no module of RUNNER_ONLY can be imported.
LIGHT_SIDE = """
import importlib, importlib.abc, json, pkgutil, sys
wheel, hidden, spec = sys.argv[1], set(json.loads(sys.argv[2])), sys.argv[3]

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
sys.path.insert(0, wheel)
import specbatch
assert specbatch.__file__.startswith(wheel), specbatch.__file__
for package in ("api", "plan", "results", "cli"):
    folder = importlib.import_module(f"specbatch.{package}")
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"specbatch.{package}.{module.name}")
from specbatch.cli.main import main
codes = [main(words) for words in (["--help"], ["validate", spec], ["plan", spec], ["run", spec])]
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """What `make dist` writes; its own checks are passed."""
    folder = tmp_path_factory.mktemp("dist")
    settings = (f"DIST={folder}/dist", f"VENV={folder}/venv", f"PYTHON={sys.executable}")
    done = subprocess.run(
        ["make", "dist", *settings], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(dist, tmp_path_factory):
    """The built wheel, and a folder where it lies unpacked."""
    (file,) = dist.glob("*.whl")
    unpacked = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(unpacked)
    return file, unpacked


@pytest.mark.slow
def test_make_dist_writes_the_same_bytes_whenever_it_is_called_and_their_hashes(dist, wheel):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert len({member.mtime for member in archive}) == 1
        assert {member.uname for member in archive} == {""}
        names = {member.name.split("/")[1] for member in archive}
    assert names == {"specbatch", "pyproject.toml", "PKG-INFO", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", ".gitignore"}  # fmt: skip
    assert len({member.date_time for member in zipfile.ZipFile(wheel[0]).infolist()}) == 1
    hashes = {line.split()[1]: line.split()[0] for line in (dist / "SHA256SUMS").read_text().splitlines()}
    assert hashes == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (sdist, wheel[0])}


@pytest.mark.slow
def test_the_wheel_in_an_environment_of_its_own_answers_the_starter_outside_the_checkout(wheel, tmp_path):
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    words = ["--python", python, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel[0]]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=120)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    # Torch and the rest are this environment's: a gigabyte is not fetched anew.
    (packages / "rest.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    script = "specbatch --help && specbatch init && specbatch run my-job.yaml --quiet && specbatch collect results/my-job -o rows.jsonl"
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel):
    file, _ = wheel
    names = {name for name in zipfile.ZipFile(file).namelist() if ".dist-info/" not in name}
    kept = {path for path in (ROOT / "specbatch").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert names == {str(path.relative_to(ROOT)) for path in kept}
    for name in ("target/model.safetensors", "drafter/config.json", "target/chat_template.jinja"):
        assert f"specbatch/embedded/{name}" in names
    templates = "specbatch/results/report/templates"
    assert {f"{templates}/report.html", f"{templates}/report.css", "specbatch/py.typed"} <= names
    assert file.stat().st_size < 10e6


@pytest.mark.slow
def test_the_base_install_works_where_torch_and_transformers_cannot_be_imported(wheel, tmp_path):
    _, unpacked = wheel
    spec = tmp_path / "job.yaml"
    spec.write_text(text_of("job/quickstart.yaml"))
    shutil.copytree(ROOT / "job/prompts", tmp_path / "job/prompts")
    words = [sys.executable, "-c", LIGHT_SIDE, unpacked, json.dumps(RUNNER_ONLY), spec]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, 0, 0, 66], "run alone needs the extra"
    assert "specbatch[runner]" in done.stderr


def _name(text):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", text)[0]).lower()


def test_everything_installed_for_development_is_pinned_and_in_that_version():
    pins = dict(line.split("==") for line in text_of("constraints.txt").splitlines() if not line.startswith("#"))
    pins = {_name(name): version for name, version in pins.items()}
    assert pins["torch"] == "2.13.0"
    installed = {_name(found.name): found.version.split("+")[0] for found in importlib.metadata.distributions()}
    wanted = {
        _name(one) for one in importlib.metadata.requires("specbatch") if re.search(r"runner|dev|s3|^[^;]+$", one)
    }
    assert wanted <= pins.keys()
    assert {name: installed[name] for name in wanted} == {name: pins[name] for name in wanted}


def test_requirements_with_hashes_are_the_pins_and_hold_all_that_the_runner_asks_for():
    pins = {_name(line): line.split("==")[1] for line in text_of("constraints.txt").splitlines() if "==" in line}
    blocks = re.split(r"\n(?=[^\s#])", "\n" + text_of("requirements/runner.txt"))[1:]
    locked = {_name(block): re.match(r"\S+==([^\s;]+)", block)[1] for block in blocks}
    assert len(locked) == len(blocks)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}(\s|$)", block) for block in blocks)
    asked = {
        _name(one)
        for one in importlib.metadata.requires("specbatch")
        if not (extra := re.search(r"extra == ['\"](\w+)['\"]", one)) or extra[1] in {"runner", "grammar", "s3"}
    }
    assert asked <= locked.keys()
    both = locked.keys() & pins.keys()
    assert len(both) > 70
    assert {name: locked[name] for name in both} == {name: pins[name] for name in both}
