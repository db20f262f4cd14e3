"""The rules in their order: the one whose answer is the most certain comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.rules import (
    admission,
    capacity,
    containers,
    exits,
    images,
    job,
    models,
    progress,
    queues,
    references,
    scheduling,
    storage,
)

Rule = Callable[[Evidence, Object], Iterator[Finding]]

OF_A_JOB: Sequence[Rule] = (job.complete, job.deleting, job.deadline, job.not_started, queues.queue, job.suspended)
"""Of a Job, whatever its pods do; the first answer counts."""

OF_A_POD: Sequence[Rule] = (
    exits.failure,
    progress.ending,
    storage.claims,
    scheduling.unschedulable,
    images.images,
    containers.containers,
    progress.running,
    storage.mounts,
    containers.sandbox,
    progress.starting,
)
"""Of a pod that exists; the first answer counts."""

OF_A_MANIFEST: Sequence[tuple[str, Rule]] = (
    ("claims", storage.claims),
    ("claims", storage.access_modes),
    ("results", storage.results_volume),
    ("models", models.fetched),
    ("Secrets", references.secrets),
    ("ServiceAccount", references.service_account),
    ("queue", queues.queue),
    ("classes", references.classes),
    ("nodes", capacity.nodes),
)
"""Of a pod that does not exist yet, by what is looked at; every answer counts."""

BEFORE_A_FETCH: Sequence[tuple[str, Rule]] = (
    ("namespace", admission.namespace),
    ("claims", storage.claims),
    ("Secrets", references.secrets),
    ("ServiceAccount", references.service_account),
    ("classes", references.classes),
    ("nodes", capacity.nodes),
)
"""Of the pod that fetches models, which writes no results and is in no queue."""

OF_A_NAMESPACE: Sequence[tuple[str, Rule]] = (
    ("namespace", admission.namespace),
    ("quotas", admission.quotas),
    ("image", images.image_on_nodes),
)
"""Of such a pod too; submit learns these from its dry run."""
