"""What goes wrong in an attempt: done in the forked process, before the run begins."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from specbatch.cli import main as cli
from specbatch.runner import __main__ as runner
from specbatch.runner.dataset import dataset, remote
from tests.faults.layer import Layer, Plan


def prepare(setup: dict[str, Any]) -> Callable[[], None]:
    """Takes the keys env (variables), faults (layer.Plan), clock (jumps: [after seconds, by seconds]), file_bytes (none may grow larger), fresh, dataset_seconds (a call of its store, and all calls before the first row),
    reshard (arguments of that command, which then runs in place of the spec).

    Returns:
        What to call at the end.
    """
    os.environ.update(setup.get("env", {}))
    if setup.get("fresh"):
        runner.run_job = partial(runner.run_job, fresh=True)
    if "reshard" in setup:
        runner.main = lambda _spec: cli.main(["reshard", *setup["reshard"]])
    if "dataset_seconds" in setup:
        remote._CALL_SECONDS, dataset.START_SECONDS = setup["dataset_seconds"]
    if "file_bytes" in setup:
        resource.setrlimit(resource.RLIMIT_FSIZE, (setup["file_bytes"], setup["file_bytes"]))
    if "clock" in setup:
        _let_clock_jump(setup["clock"])
    if "faults" in setup:
        layer = Layer(Plan(**setup["faults"]))
        layer.install()
        return layer.finish
    return lambda: None


def _let_clock_jump(jumps: list[list[float]]) -> None:
    """The wall clock as an administrator or NTP sets it; the monotonic one goes on."""
    real, began = time.time, time.monotonic()

    def jumping() -> float:
        passed = time.monotonic() - began
        return real() + sum(by for after, by in jumps if passed >= after)

    time.time = jumping
