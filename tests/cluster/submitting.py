"""Specs, Jobs and accidents for the tests of submit and its sisters."""

from __future__ import annotations

import json

from specbatch.api.loading.parsing import parse_spec
from specbatch.cluster.client.kinds import CLAIMS, CONFIG_MAPS, JOBS, NODES
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.manifests.job import render
from specbatch.cluster.manifests.names import SUBMITTED
from specbatch.cluster.submit.submit import existing, submit

SPEC = """
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata: {name: nightly}
spec:
  target: {model: "embedded:target"}
  drafter: {model: "embedded:drafter"}
  placement: {gpus: 0}
  decoding: {maxNewTokens: 64}
  batching: {maxLength: 256}
  dataset: {uri: prompts.jsonl}
  job:
    completions: 3
    volumes: {results: {claimName: specbatch-results}}
"""
FILES = {"prompts.jsonl": b'{"prompt": "hello"}\n'}


def parsed(*overrides):
    return parse_spec(SPEC, "nightly.yaml", overrides)


def rendered(*overrides, files=None):
    return render(parsed(*overrides), FILES if files is None else files)


def put_claim(api, name="specbatch-results", *, modes=("ReadWriteMany",), phase="Bound", **metadata):
    spec = {"accessModes": list(modes), "storageClassName": "standard"}
    api.put(CLAIMS, {"metadata": {"name": name, **metadata}, "spec": spec, "status": {"phase": phase}})


def put_node(api, name, *, taints=(), labels=None, unschedulable=False, **allocatable):
    resources = {"cpu": "16", "memory": "64Gi", "pods": "110"} | {
        key.replace("__", "/").replace("_", "."): value for key, value in allocatable.items()
    }
    spec = {"taints": list(taints), **({"unschedulable": True} if unschedulable else {})}
    status = {"allocatable": resources, "conditions": [{"type": "Ready", "status": "True"}]}
    api.put(NODES, {"metadata": {"name": name, "labels": labels or {}}, "spec": spec, "status": status})


def submitted(api, *overrides, force=False, files=None):
    """Of a cluster, as a submit without checks leaves it."""
    cluster, manifests = api.cluster(), rendered(*overrides, files=files)
    return submit(cluster, manifests, existing(cluster, manifests), force=force)


def only_job(api):
    [job] = api.objects(JOBS)
    return job


def end(api, name, kind, *, completed="", failed="", message="", reason=""):
    """The Job controller's last word."""
    job = api.cluster().get(JOBS, name)
    conditions = [{"type": kind, "status": "True", "reason": reason, "message": message}]
    return api.put(
        JOBS, job | {"status": {"conditions": conditions, "completedIndexes": completed, "failedIndexes": failed}}
    )


def assert_started_once(api, run="nightly", jobs=1):
    """One Job, started, and one ConfigMap, which it owns: nothing else is left."""
    found = [job for job in api.objects(JOBS) if job["metadata"]["labels"]["specbatch.dev/run"] == run]
    assert len(found) == jobs
    newest = max(found, key=lambda job: job["metadata"]["name"])
    assert newest["metadata"]["annotations"][SUBMITTED] == "true"
    assert newest["spec"]["suspend"] is ("kueue.x-k8s.io/queue-name" in newest["metadata"]["labels"])
    assert condition(newest, "Failed") is None
    owned = {one["metadata"]["name"]: one["metadata"]["ownerReferences"] for one in api.objects(CONFIG_MAPS)}
    assert {name: owners[0]["uid"] for name, owners in owned.items()} == {
        job["metadata"]["name"]: job["metadata"]["uid"] for job in found
    }
    spec = next(one for one in api.objects(CONFIG_MAPS) if one["metadata"]["name"] == newest["metadata"]["name"])
    assert json.loads(spec["data"]["spec.json"])["metadata"]["name"] == run
    return newest


class KilledError(BaseException):
    """The process is gone."""


class MortalCluster:
    """A cluster whose user dies after so many calls that change something; the last one reaches the server."""

    def __init__(self, cluster, calls):
        self._cluster = cluster
        self._calls = calls

    def __getattr__(self, name):
        found = getattr(self._cluster, name)
        if name not in {"create", "patch", "delete", "replace", "get", "find", "list", "can"}:
            return found

        def call(*arguments, **options):
            if self._calls <= 0:
                raise KilledError
            self._calls -= 1
            return found(*arguments, **options)

        return call
