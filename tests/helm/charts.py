"""The chart in tests: helm 3 and 4 from PyPI, and the helm of this machine where there is one."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.kube_tools import FOLDER, tool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/specbatch"
HELMS = ["helm3", "helm4", *(["helm"] if shutil.which("helm") else [])]
WITH_SPEC = ("-f", str(ROOT / "job/quickstart.yaml"))

_NOT_PLAIN = re.compile("[\x7f-\x9f\ufeff]")


class _AsKubernetes(yaml.CSafeLoader):
    """YAML as Go reads it, which wrote it: `=` is text, and 1e-06 a number."""


_AsKubernetes.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_scalar)
_AsKubernetes.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class Refused(Exception):  # noqa: N818 - reads as what happened
    """helm ended with an error; its text is what helm said."""


@cache
def binary(name: str) -> str:
    """Where a helm is; skips the test, saying so, where it cannot be had."""
    if name == "helm":
        return str(shutil.which("helm"))
    try:
        return str(tool(name))
    except RuntimeError as error:
        pytest.skip(f"no {name}: {error}")


def helm(name: str, *arguments: str) -> tuple[str, str]:
    """As `run_helm`, without a cluster."""
    return run_helm(name, *arguments, kubeconfig=os.devnull)


def run_helm(name: str, *arguments: str, kubeconfig: str) -> tuple[str, str]:
    """Standard output and standard error of a command.

    Raises:
        Refused: it failed.
    """
    environment = {"PATH": os.environ["PATH"], "HOME": str(FOLDER), "KUBECONFIG": kubeconfig}
    environment["GOGC"] = "off"  # a quarter of what a render takes is looking for garbage
    done = subprocess.run([binary(name), *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout, done.stderr


def template(name: str, *arguments: str, release: str = "rel") -> list[dict[str, Any]]:
    """The objects of the chart, the tests' among them."""
    text, _ = helm(name, "template", release, str(CHART), *arguments)
    return [one for one in yaml.load_all(text, Loader=_AsKubernetes) if one]


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one object of a kind that is no test's."""
    (found,) = [one for one in objects if one["kind"] == kind and not is_test(one)]
    return found


def is_test(thing: dict[str, Any]) -> bool:
    return "helm.sh/hook" in thing["metadata"].get("annotations", {})


def file_arguments(files: dict[str, bytes], folder: Path) -> list[str]:
    """--set-file for bundled files; those that are not plain text go as base64."""
    arguments = []
    for number, (path, content) in enumerate(files.items()):
        plain = _is_plain(content)
        place = folder / str(number)
        place.write_bytes(content if plain else base64.b64encode(content) + b"\n")
        key = re.sub(r"([\\.,=\[\]{}])", r"\\\1", path)
        arguments += ["--set-file", f"{'files' if plain else 'filesBase64'}.{key}={place}"]
    return arguments


def _is_plain(content: bytes) -> bool:
    try:
        return not _NOT_PLAIN.search(content.decode())
    except UnicodeDecodeError:
        return False
