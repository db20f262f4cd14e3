"""The Dockerfile: what can be said of it without an engine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from specbatch import __version__
from tests.documents import READMES, ROOT, text_of

TEXT = text_of("Dockerfile")
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.DOTALL | re.MULTILINE))
LAST = [name for name in STAGES if name in {"cli", "vllm", "runner"}]


@pytest.mark.slow
def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0


def test_the_images_are_there_and_the_runner_is_what_a_plain_build_makes():
    assert LAST == ["cli", "vllm", "runner"]
    assert list(STAGES)[-1] == "runner"


def test_the_base_is_an_argument_so_that_it_can_be_pinned_by_digest():
    bases = re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)
    assert {base for base in bases if base not in STAGES} == {"${PYTHON_IMAGE}"}
    assert '--build-arg PYTHON_IMAGE="$base"' in text_of("tools/build_images.sh")


@pytest.mark.parametrize("name", LAST)
def test_an_image_runs_as_a_number_that_kubernetes_can_check_and_says_what_it_is(name):
    body = STAGES[name]
    assert re.search(r"^USER 10001:10001$", body, re.MULTILINE)
    for label in ("title", "description", "version", "revision", "source", "licenses"):
        assert f"org.opencontainers.image.{label}=" in body
    assert f"ARG VERSION={__version__}\n" in body


def test_docker_run_as_the_readme_has_it_finds_the_readers_folder_and_keeps_models_and_kernels():
    assert "RUN mkdir -m 1777 /work /cache\n" in STAGES["base"]
    for kept in ("HF_HOME", "TRITON_CACHE_DIR"):
        assert re.search(rf"^ +{kept}=/cache/", STAGES["base"], re.MULTILINE)
    shown = [one for name in (*READMES, "Dockerfile") for one in re.findall(r"docker run --rm.*", text_of(name))]
    assert shown
    for command in shown:
        assert '--user "$(id -u):$(id -g)" -v "$PWD:/work" -v specbatch-cache:/cache ' in command
    for name in LAST:
        assert re.findall(r"^WORKDIR .*", STAGES[name], re.MULTILINE) == ["WORKDIR /work"]


@pytest.mark.parametrize("name", LAST)
def test_an_image_takes_nothing_from_the_building_but_the_installed_package(name):
    assert re.findall(r"^(?:COPY|ADD) .*", STAGES[name], re.MULTILINE) == [
        f"COPY --from=build-{name} /opt/specbatch /opt/specbatch"
    ]


def test_only_images_that_run_models_have_a_compiler_which_triton_needs_and_pythons_headers_are_the_bases():
    (installs,) = re.findall(r"^RUN apt-get .*", STAGES["gpu"], re.MULTILINE)
    assert "--no-install-recommends gcc libc6-dev " in installs
    bases = {name: base for base, name in re.findall(r"^FROM (\S+) AS (cli|vllm|runner)$", TEXT, re.MULTILINE)}
    assert bases == {"cli": "base", "vllm": "gpu", "runner": "gpu"}
    assert not any("RUN" in STAGES[name] for name in bases)


def test_dependencies_are_the_pinned_ones_but_where_vllm_pins_its_own():
    installs = re.findall(r"pip install (.*)", TEXT)
    loose = [words for words in installs if not words.startswith(("-c constraints.txt", "--no-deps"))]
    assert [words.split()[0] for words in loose] == ['"vllm==${VLLM}"']


def test_only_what_the_wheel_is_made_of_goes_to_the_builder():
    ignored = text_of(".dockerignore").splitlines()
    assert "*" in ignored
    copied = {word for words in re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, re.MULTILINE) for word in words.split()}
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
