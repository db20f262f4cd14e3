"""The runner's exit codes as a Job's podFailurePolicy: the one table of specbatch.errors, for Kubernetes."""

from __future__ import annotations

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.names import CONTAINER
from specbatch.errors import ExitCode

# SIGTERM, everything saved: no failure.
_NO_FAILURE = {ExitCode.STOPPED}
_NOT_THE_RUNNERS = {ExitCode.DONE, ExitCode.CLUSTER}


def pod_failure_policy() -> Object:
    """Rules in order; the first that matches applies.

    Disruptions (eviction, preemption, a node that is drained or gone) and pods that were told to stop are restarted and never
    counted. Exit codes that another attempt cannot change fail the Job at once. The rest, out-of-memory kills included, counts towards
    backoffLimitPerIndex.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
    """
    codes = [code for code in ExitCode if code not in _NOT_THE_RUNNERS]
    fatal = sorted(int(code) for code in codes if not code.retryable)
    counted = sorted(int(code) for code in codes if code.retryable and code not in _NO_FAILURE)
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            _on("Ignore", sorted(int(code) for code in _NO_FAILURE)),
            _on("FailJob", fatal),
            _on("Count", counted),
        ]
    }


def _on(action: str, codes: list[int]) -> Object:
    return {"action": action, "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": codes}}
