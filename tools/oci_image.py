"""Builds the image without a registry and without an engine: Debian by debootstrap, packages from PyPI, an archive to load.

    sudo debootstrap --variant=minbase --include=python3,ca-certificates,libgomp1,gcc,libc6-dev,libpython3-dev bookworm rootfs
    python -m tools.oci_image --root rootfs --output specbatch.tar
    ctr -n k8s.io images import specbatch.tar      or: kind load image-archive specbatch.tar, docker load -i specbatch.tar

Run it with a Python of the same version as the root's (bookworm: 3.11): packages are chosen and compiled for it. The image has the user,
the variables and the entry point of the Dockerfile's.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from specbatch import __version__
from tools.oci_archive import Layer, layer_of, write_archive

ROOT = Path(__file__).parent.parent
EXTRAS = {"runner": "[runner,s3]", "cli": "[s3]"}
LIBRARIES, APPLICATION = "opt/specbatch/lib", "opt/specbatch/app"
# Of a root file system, what only its making needs, and what a runtime mounts.
_LEFT_OUT = re.compile(
    r"^(proc|sys|dev|run|tmp|var/cache/apt|var/lib/apt/lists|var/log)/|^usr/share/(doc|man|locale|info)/|^debootstrap$"
)
_SCRIPT = "#!/usr/bin/python3\nimport sys\n\nfrom specbatch.cli.main import main\n\nsys.exit(main())\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a root file system with python3")
    parser.add_argument("--output", type=Path, required=True, help="the archive to write")
    parser.add_argument("--target", choices=sorted(EXTRAS), default="runner")
    parser.add_argument("--tag", help="the image's name; default: ghcr.io/specbatch/TARGET:VERSION")
    options = parser.parse_args()
    check_python(options.root)
    tag = options.tag or f"ghcr.io/specbatch/{options.target}:{__version__}"
    with tempfile.TemporaryDirectory(dir=options.output.resolve().parent) as scratch:
        layers = build(options.root, options.target, Path(scratch))
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        digest = write_archive(
            options.output, layers, tag=tag, run=how_it_runs(options.target), created=created, machine=machine
        )
    print(f"{options.output}: {tag}, {digest}, {options.output.stat().st_size / 1e6:.0f} MB")


def check_python(root: Path) -> None:
    """Ends the program where the root's Python is not of our version."""
    wanted = f"python3.{sys.version_info.minor}"
    if not (root / "usr/bin" / wanted).exists():
        found = ", ".join(sorted(path.name for path in (root / "usr/bin").glob("python3.*[0-9]"))) or "none"
        sys.exit(f"{root} has {found}, and this is {wanted}: run this with the same version")


def build(root: Path, target: str, scratch: Path) -> list[Layer]:
    """The image's layers: the system, what specbatch needs, specbatch."""
    libraries, application = scratch / "lib", scratch / "app"
    _install(libraries, "-c", str(ROOT / "constraints.txt"), f"{ROOT}{EXTRAS[target]}")
    for own in [libraries / "bin", *libraries.glob("specbatch*")]:
        shutil.rmtree(own)  # of it, the next layer has its own
    _install(application, "--no-deps", str(ROOT))
    shutil.rmtree(application / "bin")
    programs = scratch / "bin"
    programs.mkdir()
    (programs / "specbatch").write_text(_SCRIPT, encoding="utf-8")
    (programs / "specbatch").chmod(0o755)
    (programs / "python").symlink_to("/usr/bin/python3")
    return [
        layer_of(root, "", scratch / "0.tar", made_by="debootstrap", keep=lambda path: not _LEFT_OUT.search(path)),
        layer_of(libraries, LIBRARIES, scratch / "1.tar", made_by=f"pip install specbatch{EXTRAS[target]}"),
        layer_of(application, APPLICATION, scratch / "2.tar", made_by="pip install --no-deps specbatch"),
        layer_of(programs, "opt/specbatch/bin", scratch / "3.tar", made_by="specbatch, python"),
    ]


def how_it_runs(target: str) -> dict[str, Any]:
    """User, variables, entry point and labels: the Dockerfile's."""
    label = "org.opencontainers.image"
    driver = ["LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64"] if target == "runner" else []
    return {
        "User": "10001:10001",
        "Env": [
            "PATH=/opt/specbatch/bin:/usr/local/bin:/usr/bin:/bin",
            f"PYTHONPATH=/{APPLICATION}:/{LIBRARIES}",
            "HOME=/tmp",
            "USER=specbatch",
            "PYTHONDONTWRITEBYTECODE=1",
            "PYTHONUNBUFFERED=1",
            *driver,
        ],
        "Entrypoint": ["specbatch"],
        "Cmd": ["--help"],
        "WorkingDir": "/tmp",  # noqa: S108 - in the image
        "Labels": {
            f"{label}.title": f"specbatch, {target}",
            f"{label}.version": __version__,
            f"{label}.source": "https://github.com/specbatch/specbatch",
            f"{label}.licenses": "Apache-2.0",
        },
    }


def _install(folder: Path, *what: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--target",
        str(folder),
    ]
    subprocess.run([*command, *what], check=True)  # noqa: S603  # fixed words and our own paths


if __name__ == "__main__":
    main()
