"""Jobs and pods as a control plane shows them, for commands that read them."""

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.jobs.job_view import INDEX, JOB_NAME
from specbatch.cluster.manifests.job import Retry, render


def spec(name="nightly", **job):
    """A small spec; keywords are fields of spec.job."""
    value = {
        "apiVersion": "specbatch.dev/v1alpha1",
        "kind": "SpecBatchJob",
        "metadata": {"name": name},
        "spec": {
            "target": {"model": "embedded:target"},
            "dataset": {"uri": "s3://bucket/rows.jsonl"},
            "placement": {"gpus": 0},
            "results": {"dir": "/results"},
            "job": {"volumes": {"results": {"claimName": "specbatch-results"}}, **job},
        },
    }
    return SpecBatchJob.model_validate(value)


def job_of(made, *, conditions=(), uid="job-1", created="2026-01-01T00:00:00Z", **status):
    """A Job as it is kept: rendered, with a status."""
    job, conditions = made.job, [{"type": one, "status": "True"} if isinstance(one, str) else one for one in conditions]
    metadata = {**job["metadata"], "uid": uid, "creationTimestamp": created}
    return {**job, "metadata": metadata, "status": {"conditions": conditions, **status}}


def submitted(
    api, *, retry=None, name="nightly", conditions=(), uid="job-1", created="2026-01-01T00:00:00Z", status=None, **job
):
    """A Job with its ConfigMap, both in the API server."""
    from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS

    made = render(spec(name, **job), {}, retry)
    api.put(CONFIG_MAPS, made.config_map)
    return api.put(JOBS, job_of(made, conditions=conditions, uid=uid, created=created, **(status or {})))


def pod_of(
    job,
    index=0,
    *,
    attempt=0,
    state="running",
    node="node-a",
    message="",
    reason="",
    exit_code=0,
    conditions=(),
    **status,
):
    """A pod of an index; `state` of its container: running, waiting, succeeded or failed."""
    name = job["metadata"]["name"]
    container = {
        "running": {"running": {"startedAt": "2026-01-01T00:00:10Z"}},
        "waiting": {"waiting": {"reason": reason or "ContainerCreating"}},
        "succeeded": {"terminated": {"exitCode": 0, "reason": "Completed", "message": message}},
        "failed": {"terminated": {"exitCode": exit_code or 1, "reason": reason or "Error", "message": message}},
        "unscheduled": None,
    }[state]
    phase = {"running": "Running", "succeeded": "Succeeded", "failed": "Failed"}.get(state, "Pending")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{index}-{'abcdefgh'[attempt] * 5}",
            "uid": f"{name}-{index}-{attempt}",
            "creationTimestamp": f"2026-01-01T00:{attempt:02d}:00Z",
            "labels": {**job["metadata"]["labels"], JOB_NAME: name, INDEX: str(index)},
        },
        "spec": {"nodeName": node, "containers": [{"name": "runner", "image": "runner:1"}]},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            **({"containerStatuses": [{"name": "runner", "state": container}]} if container else {}),
            **status,
        },
    }


def retry_of(job, shards, number=2):
    return Retry(number, job["metadata"]["name"], shards)
