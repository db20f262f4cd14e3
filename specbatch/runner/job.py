"""run_job: one SpecBatchJob on this machine. Nothing here imports torch before the environment is set."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.errors import Problem, SpecError
from specbatch.results.cost import PRICE
from specbatch.results.publish.publish import STOP_SECONDS as PUBLISH_SECONDS
from specbatch.results.summary import RunSummary
from specbatch.runner.dataset.lines import Shard
from specbatch.runner.display import Display
from specbatch.runner.stopping import DRAIN_SECONDS, StopSignals, drain_within
from specbatch.runner.torch_ready import with_torch

if TYPE_CHECKING:
    from specbatch.runner.session import Session

COMPLETION_INDEX = "JOB_COMPLETION_INDEX"  # set by Kubernetes in the pods of an Indexed Job
SHARDS = "SPECBATCH_SHARDS"  # "3,7" in the pods of a retry: completion index 0 runs shard 3, index 1 shard 7

_SWITCH_SECONDS = 0.0005  # reader and writer threads give way to the engine's thread ten times sooner than by default


def run_job(
    job: SpecBatchJob,
    *,
    display: Display | None = None,
    env: Mapping[str, str] | None = None,
    fresh: bool = False,
    price: float | None = None,
) -> RunSummary:
    """Runs a spec: in a pod of an Indexed Job the shard of its completion index, elsewhere all rows.

    A second call continues: rows that are finished are skipped. SIGTERM and SIGINT end it in order while it runs (in the main thread).

    Args:
        job: the spec.
        display: shows how it goes; nothing is shown by default.
        env: environment variables (placement overrides, completion index, hub cache); os.environ by default.
        fresh: deletes earlier results of this run first.
        price: of a GPU for an hour; None: as the environment's SPECBATCH_PRICE says, if at all.

    Returns:
        This attempt in numbers. Results and report are in `results.layout.run_directory(results.dir, job.results_name)`.

    Raises:
        SpecbatchError: of any kind; its exit_code is the process's. What was finished is saved.
    """
    display = display or Display()
    environment = os.environ if env is None else env
    shard = find_shard(job, environment)
    price = _price(environment) if price is None else price
    sys.setswitchinterval(_SWITCH_SECONDS)
    with StopSignals(_drain_seconds(job, environment)) as signals:
        try:
            display.step("importing torch and transformers")
            session, few_threads = with_torch(job.spec.placement, _session, doing="decoding")
            started = session(job, shard, display, environment, signals, few_threads=few_threads, price=price)
            return started.run(fresh=fresh)
        finally:
            display.close()


def find_shard(job: SpecBatchJob, env: Mapping[str, str]) -> Shard:
    """The shard of this process: that of its completion index, or the one that a retry Job lists for it.

    Raises:
        SpecError: the completion index is not one of the job's completions, or the list of shards is wrong.
    """
    text = env.get(COMPLETION_INDEX, "")
    if not text:
        return Shard()
    count = job.spec.job.completions
    listed = env.get(SHARDS, "")
    if listed:
        return Shard(_listed_shard(listed, text, count), count)
    if not text.isdecimal() or int(text) >= count:
        remedy = "set spec.job.completions to the Job's own completions; unset the variable to run all rows here"
        raise _wrong(COMPLETION_INDEX, f"{text!r} is not one of 0 to {count - 1}", remedy)
    return Shard(int(text), count)


def _listed_shard(listed: str, index: str, count: int) -> int:
    """The shard at the completion index of the list."""
    words = [word.strip() for word in listed.split(",")]
    wrong = [word for word in words if not (word.isascii() and word.isdecimal() and int(word) < count)]
    if wrong:
        remedy = "list the shards to be run, such as 3,7; spec.job.completions stays what it was"
        raise _wrong(SHARDS, f"{wrong[0]!r} is not one of 0 to {count - 1}", remedy)
    shards = [int(word) for word in words]
    if len(set(shards)) < len(shards):
        twice = next(shard for shard in shards if shards.count(shard) > 1)
        raise _wrong(SHARDS, f"shard {twice} is listed twice", "list each shard once: two pods would write its files")
    if not index.isdecimal() or int(index) >= len(shards):
        remedy = f"the Job's own completions must be the number of shards in {SHARDS}"
        raise _wrong(COMPLETION_INDEX, f"{index!r} is not one of 0 to {len(shards) - 1}", remedy)
    return shards[int(index)]


def _price(env: Mapping[str, str]) -> float | None:
    text = env.get(PRICE, "")
    if not text:
        return None
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < math.inf:
        raise _wrong(PRICE, f"{text!r} is no price", "set it to what a GPU costs for an hour, such as 2.5; or unset it")
    return price


def _wrong(variable: str, message: str, remedy: str) -> SpecError:
    return SpecError([Problem(variable, message, remedy)], source="environment")


def _drain_seconds(job: SpecBatchJob, env: Mapping[str, str]) -> float:
    """How long rows in flight may take after a stop signal; outside of a pod there is no grace period."""
    if not env.get(COMPLETION_INDEX):
        return DRAIN_SECONDS
    results = job.spec.results
    publishing = PUBLISH_SECONDS if results.publish is not None else 0.0
    return drain_within(job.spec.job.termination_grace_period_seconds, results.fsync_seconds + publishing)


def _session() -> type[Session]:
    from specbatch.runner.session import Session  # noqa: PLC0415 - imports torch

    return Session
