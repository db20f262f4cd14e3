"""run_job: one SpecBatchJob on this machine. Nothing here imports torch before the environment is set."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.errors import ModelError, Problem, SpecError
from specbatch.results.summary import RunSummary
from specbatch.runner.dataset import Shard
from specbatch.runner.display import Display, QuietDisplay
from specbatch.runner.environment import prepare_environment
from specbatch.runner.stopping import StopSignals

if TYPE_CHECKING:
    from specbatch.runner.session import Session

COMPLETION_INDEX = "JOB_COMPLETION_INDEX"  # set by Kubernetes in the pods of an Indexed Job

_SWITCH_SECONDS = 0.0005  # reader and writer threads give way to the engine's thread ten times sooner than by default


def run_job(
    job: SpecBatchJob, *, display: Display | None = None, env: Mapping[str, str] | None = None, fresh: bool = False
) -> RunSummary:
    """Runs a spec: in a pod of an Indexed Job the shard of its completion index, elsewhere all rows.

    A second call continues: rows that are finished are skipped. SIGTERM and SIGINT end it in order while it runs (in the main thread).

    Args:
        job: the spec.
        display: shows how it goes; nothing is shown by default.
        env: environment variables (placement overrides, completion index, hub cache); os.environ by default.
        fresh: deletes earlier results of this run first.

    Returns:
        This attempt in numbers. Results and report are in `results.layout.run_directory(results.dir, metadata.name)`.

    Raises:
        SpecbatchError: of any kind; its exit_code is the process's. What was finished is saved.
    """
    display = display or QuietDisplay()
    environment = os.environ if env is None else env
    shard = find_shard(job, environment)
    placement = job.spec.placement
    few_threads = placement.gpus == 0 and placement.cpu_threads == "auto" and "OMP_NUM_THREADS" not in os.environ
    threads = prepare_environment(os.environ, placement.cpu_threads, terminal=sys.stderr.isatty())
    sys.setswitchinterval(_SWITCH_SECONDS)
    with StopSignals() as signals:
        try:
            display.step("importing torch and transformers")
            session = _import_session(threads)
            return session(job, shard, display, environment, signals, few_threads=few_threads).run(fresh=fresh)
        finally:
            display.close()


def find_shard(job: SpecBatchJob, env: Mapping[str, str]) -> Shard:
    """The shard of this process.

    Raises:
        SpecError: the completion index is not one of the job's completions.
    """
    text = env.get(COMPLETION_INDEX, "")
    if not text:
        return Shard()
    count = job.spec.job.completions
    if not text.isdecimal() or int(text) >= count:
        problem = Problem(
            COMPLETION_INDEX,
            f"{text!r} is not one of 0 to {count - 1}",
            "set spec.job.completions to the Job's own completions; unset the variable to run all rows here",
        )
        raise SpecError([problem], source="environment")
    return Shard(int(text), count)


def _import_session(threads: int) -> type[Session]:
    try:
        import torch  # noqa: PLC0415 - reads the environment once, when imported: it must have been set

        from specbatch.runner.session import Session  # noqa: PLC0415 - imports torch
    except ImportError as error:
        raise ModelError(
            f"decoding needs packages that are not installed ({error})", remedy="pip install 'specbatch[runner]'"
        ) from error
    torch.set_num_threads(threads)
    return Session
