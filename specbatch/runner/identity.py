"""The identity of a run, computed from its spec and input files when it starts, and compared when it is verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from specbatch.api.hash import hashed_part
from specbatch.api.job import SpecBatchJob
from specbatch.engine.counter_rng import STREAM_VERSION
from specbatch.errors import ModelError, ResultsError
from specbatch.results.clock import agreed_instant
from specbatch.results.identity import Identity
from specbatch.results.layout import ShardFile
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.dataset.lines import Shard
from specbatch.runner.models.files import ModelFiles
from specbatch.runner.models.load import Pair
from specbatch.runner.output.publishing import published_folder
from specbatch.runner.rows.row_reader import FINGERPRINT_VERSION
from specbatch.runner.rows.templates import ChatTemplate, proposed_instant, template_file

RECIPE = f"fingerprints {FINGERPRINT_VERSION}, streams {STREAM_VERSION}"
"""By this a run knows whether another release would know its finished rows again, and draw the same tokens."""


def run_identity(
    job: SpecBatchJob, dataset: Dataset, pair: Pair, template: ChatTemplate | None, *, engine: str, instant: str
) -> Identity:
    """The identity of a run that starts; `engine` as `EngineChoice.identity`, `instant` as `run_instant` gives it."""
    return Identity(
        spec_hash=job.spec_hash(),
        dataset=dataset.fingerprint(),
        models=pair.identity,
        spec=hashed_part(job.spec.model_dump(mode="json", by_alias=True)),
        recipe=RECIPE,
        files=pair.text_files | template_file(template),
        instant=instant,
        engine=engine,
    )


def run_instant(
    job: SpecBatchJob,
    run_dir: Path,
    shard: Shard,
    template: ChatTemplate | None,
    env: Mapping[str, str],
    *,
    fresh: bool,
) -> str:
    """The time that the template is shown in every shard and attempt; "" where it does not ask. Errors as `agreed_instant`."""
    if template is None or not template.reads_clock:
        return ""
    published = published_folder(job.spec.results, run_dir)
    file = ShardFile("identity", shard.number, shard.count)
    return agreed_instant(run_dir, published, file, proposed_instant(env), fresh=fresh)


def check_files(identity: Identity, target: ModelFiles, template: ChatTemplate | None) -> None:
    """What decides on the target's text beside its weights is as it was in the run, and what its template was shown is known.

    Raises:
        ModelError: a file has changed, by name.
        ResultsError: the run's release did not keep the time that its template was shown.
    """
    here = replace(identity, files=target.text_files_of("target") | template_file(template))
    there = {name: digest for name, digest in identity.files.items() if not name.startswith("drafter/")}
    if changed := here.differences(replace(identity, files=there)):
        raise ModelError(
            f"not as in the run: {'; '.join(changed)}",
            where="spec.target.model",
            remedy="verify with the files of the run: --set target.model=PATH where they are kept",
        )
    if template is not None and template.reads_clock and not identity.instant:
        raise ResultsError(
            "the chat template reads the clock, and the release that made the run did not keep what it showed",
            remedy="such a run cannot be verified: run it again",
        )
