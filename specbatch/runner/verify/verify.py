"""verify_run: replays a sample of a run's rows with the target alone. Imports torch only once the environment is set."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from specbatch.api.hash import hashed_part, leaves
from specbatch.api.job import SpecBatchJob
from specbatch.api.loading.parsing import job_from
from specbatch.errors import Problem, ResultsError, SpecError, StoppedError
from specbatch.results.manifest import Manifest, read_manifests
from specbatch.results.verification import Verification, write_verification
from specbatch.runner.stopping import StopSignals
from specbatch.runner.torch_ready import with_torch
from specbatch.runner.verify.sample import Sample, sample_rows

if TYPE_CHECKING:
    from specbatch.runner.verify.replay import Replay

_DRAFTER_VARIABLES = ("DRAFTER_GPU", "DRAFTER_GPU_RATIO")
_MAY_CHANGE = (
    "target.model",
    "target.revision",
    "target.adapter",
    "dataset.uri",
)  # where things are now; what they hold is compared


def verify_run(
    run_dir: str | Path,
    sample: int = 100,
    *,
    seed: int = 0,
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Replays finished rows with the target alone, and writes what was found into every manifest in the directory.

    Args:
        run_dir: the run's directory on this machine (`results.layout.run_directory`).
        sample: rows to look at; all where there are fewer.
        seed: of the choice of rows; the same rows for the same seed.
        overrides: `path=value` changes to the spec: placement, batch size, where dataset and target are now.
        env: environment variables (placement overrides, hub cache); os.environ by default.
        say: shows a line of what is going on.

    Raises:
        SpecError: an override is wrong, or changes what the rows are.
        DatasetError: the dataset cannot be read, or none of the sampled rows is in it as it was decoded.
        ModelError: the target is missing, or is not the one of the run.
        ResultsError: there is no manifest, rows cannot be read, or the certificate cannot be written.
        StoppedError: stopped by a signal; nothing is written.
        DeviceError, OutOfMemoryError: as a run.
    """
    directory = Path(run_dir).expanduser()
    environment = os.environ if env is None else env
    try:
        with StopSignals() as signals:
            manifest = _manifest(directory)
            job = alone(manifest, overrides)
            rows = sample_rows(directory, sample, seed)
            found = _replay(manifest, job, rows, seed, environment, say)
            signals.finish()
            write_verification(directory, found)
    except StoppedError as error:
        raise StoppedError("told to stop; no certificate was written", remedy="start the command again") from error
    return found


def alone(manifest: Manifest, overrides: Sequence[str] = ()) -> SpecBatchJob:
    """The run's job with the target alone, on the run's devices and with its batch size, changed by the overrides.

    Raises:
        SpecError: as `verify_run`.
    """
    spec = _job(manifest, ()).spec
    changes = [f"target.revision={revision}"] if (revision := _revision(manifest)) else []
    changes.append(f"engine.name={manifest.identity.engine.partition(' ')[0]}")  # that ran, whatever auto would be here
    if spec.drafter is not None:
        changes += ["drafter=null", "decoding.numSpeculativeTokens=0"]
    if spec.placement.strategy in {"separate", "multi_gpu_ratio"}:  # the GPUs of the drafter are free now
        changes += ["placement.strategy=auto", "placement.ratio=null"]
    if (rows := _max_sequences(manifest)) is not None:
        changes.append(f"batching.maxSequences={rows}")
    job = _job(manifest, [*changes, *overrides])
    changed = _differences(_job(manifest, changes), job)
    if changed:
        remedy = f"of what affects the rows only {', '.join(_MAY_CHANGE)} may be given anew"
        problems = [Problem(f"--set {path}", "changes what the rows are", remedy) for path in changed]
        raise SpecError(problems, source="verify")
    return job


def _job(manifest: Manifest, overrides: Sequence[str]) -> SpecBatchJob:
    return job_from(copy.deepcopy(dict(manifest.spec)), "the manifest's spec", overrides)


def _manifest(run_dir: Path) -> Manifest:
    """One of the run's: all shards have the same spec and models. The one with the most tokens says how the run went."""
    manifests = read_manifests(run_dir)
    if not manifests:
        raise ResultsError(
            "there is no manifest: no run has ended there",
            where=str(run_dir),
            remedy="name the directory that holds manifest-*.json; a run that was killed writes it when started again",
        )
    return max(manifests, key=lambda manifest: manifest.totals.completion_tokens)


def _replay(
    manifest: Manifest, job: SpecBatchJob, rows: Sample, seed: int, env: Mapping[str, str], say: Callable[[str], None]
) -> Verification:
    if not rows.rows:
        return Verification(finished=rows.finished, sampled=0, seed=seed, target=manifest.identity.models["target"])
    say("importing torch and transformers")
    replay, few_threads = with_torch(job.spec.placement, _import_replay, doing="verifying")
    made = replay(
        job,
        manifest.identity,
        {name: value for name, value in env.items() if name not in _DRAFTER_VARIABLES},
        say,
        rejecting=_rejecting(manifest),
        few_threads=few_threads,
    )
    return made.verify(rows, seed)


def _import_replay() -> type[Replay]:
    from specbatch.runner.verify.replay import Replay  # noqa: PLC0415 - imports torch

    return Replay


def _revision(manifest: Manifest) -> str | None:
    """Of a target from the hub: the commit that was loaded, which the spec need not name."""
    revision = manifest.identity.models["target"].rpartition("@")[2]
    return None if revision.startswith("content-") else revision


def _max_sequences(manifest: Manifest) -> int | None:
    """Rows at once in one replica of the run."""
    replicas = sum(role.startswith("target") for role in manifest.placement) or 1
    return manifest.summary.max_sequences // replicas or None


def _rejecting(manifest: Manifest) -> bool:
    """Whether sampled rows came from the rejection rule, which needs a drafter to reject, or from another engine's random numbers."""
    spec = manifest.spec["spec"]
    if manifest.identity.engine != "native":
        return True
    return bool(spec["decoding"]["acceptanceRule"] == "rejection" and spec.get("drafter") is not None)


def _differences(one: SpecBatchJob, other: SpecBatchJob) -> list[str]:
    """The paths of what affects the rows and is not the same."""
    mine, yours = (dict(leaves(hashed_part(job.spec.model_dump(mode="json", by_alias=True)))) for job in (one, other))
    return [path for path, value in yours.items() if path not in _MAY_CHANGE and mine.get(path, ...) != value]
