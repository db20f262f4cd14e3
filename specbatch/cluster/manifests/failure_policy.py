"""The runner's exit codes as a Job's podFailurePolicy: the one table of specbatch.errors, for Kubernetes."""

from __future__ import annotations

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.names import CONTAINER
from specbatch.errors import ExitCode

# What a pod ends with though nothing failed: told to stop, all saved.
_NO_FAILURE = {ExitCode.STOPPED}
_NOT_THE_RUNNERS = {ExitCode.DONE, ExitCode.CLUSTER}


def pod_failure_policy() -> Object:
    """Rules in the order in which Kubernetes tries them; the first that matches wins.

    Disruptions (eviction, preemption, a node that is drained or gone) and pods that were told to stop are started again and never
    counted. What no other attempt can mend fails the Job at once. The rest, out-of-memory kills among it, counts towards
    backoffLimitPerIndex.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
    """
    codes = [code for code in ExitCode if code not in _NOT_THE_RUNNERS]
    hopeless = sorted(int(code) for code in codes if not code.retryable)
    counted = sorted(int(code) for code in codes if code.retryable and code not in _NO_FAILURE)
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            _on("Ignore", sorted(int(code) for code in _NO_FAILURE)),
            _on("FailJob", hopeless),
            _on("Count", counted),
        ]
    }


def _on(action: str, codes: list[int]) -> Object:
    return {"action": action, "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": codes}}
