"""The pod's process: `python -m specbatch.runner /etc/specbatch/spec.yaml`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from msgspec.structs import replace

from specbatch.api.loading.load import load_spec
from specbatch.errors import ExitCode, OtherRunError, SpecbatchError, SplitError
from specbatch.redact import redact
from specbatch.results.protocol import TerminationMessage
from specbatch.runner.display import JsonDisplay
from specbatch.runner.job import find_shard, run_job
from specbatch.runner.termination import BUG, leave_message, of_error, of_success, of_usage, rows_so_far
from specbatch.terminal import for_people

_ANEW = "specbatch submit FILE --fresh starts anew, in a results folder of its own; or set another results.name, or metadata.name"
_RESHARD = "set job.completions back to that number; or end the run (specbatch cancel), then specbatch reshard NAME --completions N, and submit again"
_USAGE = "usage: python -m specbatch.runner SPEC_FILE"


def main(arguments: Sequence[str]) -> int:
    """Runs a spec file; the exit code. Progress goes to standard output as JSON lines, an error to standard error."""
    if len(arguments) != 1:
        print(_USAGE, file=sys.stderr)  # noqa: T201 - this is the output
        leave_message(of_usage(_USAGE))
        return ExitCode.BAD_SPEC
    known: dict[str, int] = {}  # of the shard, for the termination message
    try:
        message = _run(arguments[0], known)
    except SpecbatchError as error:
        if isinstance(error, OtherRunError | SplitError):
            error.remedy = _RESHARD if isinstance(error, SplitError) else _ANEW
        print(for_people(f"error: {error}"), file=sys.stderr)  # noqa: T201 - this is the output
        leave_message(replace(of_error(error), **known))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a bug of ours: whoever looks at the pod must see it
        print(redact(traceback.format_exc()), file=sys.stderr)  # noqa: T201 - as above
        leave_message(replace(of_error(error), **known))
        return BUG
    leave_message(replace(message, **known))
    return ExitCode.DONE


def _run(spec_file: str, known: dict[str, int]) -> TerminationMessage:
    job = load_spec(spec_file)
    shard = find_shard(job, os.environ)
    known |= {"shard": shard.number, "shards": shard.count}
    try:
        return of_success(run_job(job, display=JsonDisplay(sys.stdout)))
    except Exception:
        known |= rows_so_far(job, shard)
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
