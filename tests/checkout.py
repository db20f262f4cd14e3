"""What a new user has after the installation: the repository's files and .venv, in a folder of its own, and bash in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.documents import ROOT


def fresh_checkout(folder):
    """Fills a folder with what the commands of the documents use."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "job", "k8s", "helm"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def run_block(block, folder):
    """A block of commands; `make test` is only asked what it would do, since it is what runs this, and nothing is installed."""
    script = block.replace("make test", "make -n test").replace("make quickstart", "make -o .venv/.runner quickstart")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    path = f"{Path(sys.executable).parent}:{inherited['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**inherited, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
