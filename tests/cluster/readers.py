"""The node's side of reader pods: they come to run, and their commands are carried out on a folder here."""

import io
import threading

from specbatch.cluster.client.kinds import PODS
from specbatch.errors import ResultsError
from specbatch.results.collect.reshard import reshard
from specbatch.results.collect.send import send

RUNNING = {"phase": "Running", "containerStatuses": [{"name": "reader", "state": {"running": {}}}]}


class Node:
    """Gives each reader pod that appears the next of `statuses`; the last one stays.

    Attributes:
        folders: a folder in the pods -> a folder here.
        sent: the arguments of each command.
        cuts: after so many bytes of a command's output its connection is lost.
        made: manifests of the readers so far.
    """

    def __init__(self, api, folders, statuses=(RUNNING,)):
        self.folders, self.sent, self.made, self.cuts = folders, [], [], []
        self.before = lambda command: None
        self._api, self._statuses, self._seen = api, list(statuses), set()
        self._stop = threading.Event()
        api.commands = self.command
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)

    def command(self, pod, container, command):
        assert container == "reader"
        if command[:4] == ["python", "-m", "specbatch", "reshard"]:
            self.sent.append(command[3:])
            return self._reshard(self.folders[command[4]], int(command[6]))
        assert command[:3] == ["python", "-m", "specbatch.results.collect.send"]
        folder, *after = command[3:]
        self.sent.append(command[3:])
        self.before(command)
        out = io.BytesIO()
        send(self.folders[folder], out, (after[0], int(after[1])) if after else None)
        return out.getvalue(), b"", 0

    def _reshard(self, folder, shards):
        try:
            return f"{reshard(folder, shards).rows} rows\n".encode(), b"", 0
        except ResultsError as error:
            return b"", f"error: {error}".encode(), int(error.exit_code)

    def _run(self):
        while not self._stop.wait(0.005):
            for pod in self._api.objects(PODS):
                uid = pod["metadata"]["uid"]
                if pod["metadata"]["name"].endswith(("-reader", "-reshard")) and uid not in self._seen:
                    self._seen.add(uid)
                    self.made.append(pod)
                    status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
                    placed = {"nodeName": "node-a"} if "containerStatuses" in status else {}
                    self._api.put(PODS, {**pod, "spec": {**placed, **pod["spec"]}, "status": status})
