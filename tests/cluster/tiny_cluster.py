"""A cluster of one process: what becomes of a Job where controllers and kubelets are, on the test's API server.

Pods are real processes of the runner, one a completion index, started in a folder that stands for the root of their file system; their
output is their log, their exit code and last word their status. So every door can be gone through without a cluster. What a real one does
besides (limits, security, storage, scheduling, retries) is for the tests marked cluster.
"""

import json
import os
import subprocess
import sys
import threading
import time

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS
from specbatch.cluster.jobs.job_view import INDEX, JOB_NAME, format_indexes
from tests.documents import ROOT

_LOOK_SECONDS = 0.1


class TinyCluster:
    """Runs the Jobs of an API server until it is left.

    Args:
        api: the server.
        root: a folder that is / in every pod.
        zygote: starts the processes of runners.
        on_cpus: changes of a spec that asks for GPUs, section by section: there are none here.
        environment: variables of every pod.
    """

    def __init__(self, api, root, zygote=None, *, on_cpus=None, **environment):
        self._on_cpus = on_cpus or {}
        self._environment = environment
        self._api = api
        self._root = root
        self._zygote = zygote
        self._processes = {}  # pod -> process
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._api.commands = self._exec
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._left.set()
        self._thread.join(30)
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _run(self):
        while not self._left.wait(_LOOK_SECONDS):
            for job in self._api.objects(JOBS):
                if not job["spec"].get("suspend") and "conditions" not in job.get("status", {}):
                    self._go_on(job)
            for pod in self._api.objects(PODS):
                if "status" not in pod:  # nobody's but a command's: it reads a volume
                    self._put(pod, phase="Running", state={"running": {"startedAt": _now()}}, ready=True)

    def _go_on(self, job):
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        [config_map] = [one for one in self._api.objects(CONFIG_MAPS) if one["metadata"]["name"] == name] or [None]
        if config_map is None and _command(job)[2] == "specbatch.runner":
            return  # its pods wait for it
        codes = {}
        for index in range(job["spec"]["completions"]):
            pod = f"{name}-{index}-pod"
            if pod not in self._processes:
                self._start(pod, namespace, job, config_map, index)
            codes[index] = self._look(pod, namespace)
        done = [index for index, code in codes.items() if code == 0]
        failed = [index for index, code in codes.items() if code]
        status = {"active": len(codes) - len(done) - len(failed), "succeeded": len(done), "failed": len(failed), "startTime": _now()}  # fmt: skip
        status |= {"completedIndexes": format_indexes(done), "failedIndexes": format_indexes(failed)}
        if len(done) + len(failed) == len(codes):
            kind = "Failed" if failed else "Complete"
            status["conditions"] = [{"type": kind, "status": "True", "lastTransitionTime": _now()}]
        self._api.put(JOBS, {**job, "status": status})

    def _start(self, pod, namespace, job, config_map, index):
        """The pod's files where it looks for them, and its process."""
        container = job["spec"]["template"]["spec"]["containers"][0]
        log, termination_message = self._root / f"{pod}.log", self._root / f"{pod}.last"
        termination_message.touch()
        environment = {"JOB_COMPLETION_INDEX": str(index), "TERMINATION_LOG": str(termination_message)}
        environment |= self._environment
        given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HOME"):
            environment |= {name: self._inside(given[name])} if name in given else {}
        if config_map:
            words = self._runner(pod, container, config_map)
            self._processes[pod] = self._zygote.process(*words, cwd=self._root, log=log, **environment)
        else:  # of fetch: the hub's client reads its variables when it is imported
            self._processes[pod] = self._process(_command(job)[1:], log, environment)
        self._put_started(pod, namespace, job, index)

    def _for_here(self, text):
        spec = json.loads(text)
        if spec["spec"]["placement"].get("gpus"):
            for section, changes in self._on_cpus.items():
                spec["spec"][section] = changes if section == "placement" else {**spec["spec"][section], **changes}
        return json.dumps(spec)

    def _process(self, words, log, environment):
        with log.open("wb") as out:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
            return subprocess.Popen([sys.executable, *words], cwd=self._root, env=environment, stdout=out, stderr=out)

    def _runner(self, pod, container, config_map):
        """The words of a runner, with its files where it looks for them."""
        for mount in container["volumeMounts"]:
            if mount["name"] == "spec" and "subPath" in mount:
                self._write(mount["mountPath"], config_map["data"][mount["subPath"]])
        spec = self._write(f"/etc/specbatch/{pod}.json", self._for_here(config_map["data"]["spec.json"]))
        assert container["command"][:3] == ["python", "-m", "specbatch.runner"]
        return "specbatch.runner", spec

    def _put_started(self, pod, namespace, job, index):
        labels = {**job["spec"]["template"]["metadata"]["labels"], JOB_NAME: job["metadata"]["name"], INDEX: str(index)}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True} | {
            field: job["metadata"][field] for field in ("name", "uid")
        }
        metadata = {"name": pod, "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
        self._put(
            {"metadata": metadata, "spec": {**job["spec"]["template"]["spec"], "nodeName": "here"}},
            phase="Running",
            state={"running": {"startedAt": _now()}},
            ready=True,
        )

    def _look(self, pod, namespace):
        """The exit code of a pod's process; None while it runs."""
        code = self._processes[pod].poll()
        self._api.logs[pod] = (self._root / f"{pod}.log").read_text()
        [now] = [one for one in self._api.objects(PODS) if one["metadata"]["name"] == pod] or [None]
        if code is not None and now is not None and now["status"]["phase"] == "Running":
            ended = {"exitCode": code, "finishedAt": _now(), "message": (self._root / f"{pod}.last").read_text()}
            ended["reason"] = "Error" if code else "Completed"
            self._put(now, phase="Failed" if code else "Succeeded", state={"terminated": ended}, ready=False)
        return code

    def _put(self, pod, *, phase, state, ready):
        container = {"name": pod["spec"]["containers"][0]["name"], "state": state, "ready": ready, "restartCount": 0}
        conditions = [{"type": kind, "status": str(ready)} for kind in ("Ready", "ContainersReady")]
        conditions.append({"type": "PodScheduled", "status": "True"})
        status = {"phase": phase, "containerStatuses": [container], "conditions": conditions, "startTime": _now()}
        self._api.put(PODS, {**pod, "status": status})

    def _exec(self, _pod, _container, command):
        words = [sys.executable if word == "python" else self._inside(word) for word in command]
        done = subprocess.run(words, capture_output=True, check=False)
        return done.stdout, done.stderr, done.returncode

    def _inside(self, word):
        return str(self._root / word.lstrip("/")) if word.startswith("/") else word

    def _write(self, path, text):
        place = self._root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        # Another pod may be reading it: on a cluster each has a volume of its own.
        if not place.exists() or place.read_text() != text:
            place.write_text(text)
        return str(place)


def _command(job):
    return job["spec"]["template"]["spec"]["containers"][0]["command"]


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
