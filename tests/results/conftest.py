import subprocess
import sys

import pytest


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "nightly"


@pytest.fixture
def run_python():
    """Runs code in a fresh interpreter; gives its output."""

    def run(code, *arguments, check=True, env=None):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=env,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run
