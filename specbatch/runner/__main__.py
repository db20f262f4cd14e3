"""The pod's process: `python -m specbatch.runner /etc/specbatch/spec.yaml`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from specbatch.api.loading import load_spec
from specbatch.errors import ExitCode, SpecbatchError
from specbatch.runner.display import JsonDisplay
from specbatch.runner.job import run_job

TERMINATION_LOG = "/dev/termination-log"  # Kubernetes shows what is written there in the pod's status
_MAX_MESSAGE_BYTES = 4096


def main(arguments: Sequence[str]) -> int:
    """Runs a spec file; the exit code. Progress goes to standard output as JSON lines, an error to standard error."""
    if len(arguments) != 1:
        print("usage: python -m specbatch.runner SPEC_FILE", file=sys.stderr)  # noqa: T201 - this is the output
        return ExitCode.BAD_SPEC
    try:
        run_job(load_spec(arguments[0]), display=JsonDisplay(sys.stdout))
    except SpecbatchError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this is the output
        leave_message(f"{error.exit_code.meaning}: {error}", Path(os.environ.get("TERMINATION_LOG", TERMINATION_LOG)))
        return error.exit_code
    return ExitCode.DONE


def leave_message(message: str, path: Path) -> None:
    """Writes the pod's termination message, where there is a file for it."""
    with contextlib.suppress(OSError):
        if path.exists():
            path.write_bytes(message.encode("utf-8", "replace")[:_MAX_MESSAGE_BYTES])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
