"""A kubelet's side of a pod's log, in memory: times in whole seconds to resume at, connections that break, files that rotate."""

from specbatch.cluster.client.connection import lines
from specbatch.cluster.client.errors import DROPPED
from specbatch.errors import ClusterError


class Kubelet:
    """Lines are (time, text). Connections break after as many bytes as `cuts` say, one by one, then hold.

    `clean` ones end as if all had been told: an API server does so when it loses the kubelet.
    """

    def __init__(self, written, *, cuts=(), clean=False, end="\n"):
        self.written = list(written)
        self.cuts = list(cuts)
        self.clean = clean
        self.end = end
        self.asked = []
        self.arrives = []  # what is written while a log is followed

    def rotate(self):
        """What is written already is out of reach."""
        self.written.clear()

    def log(self, pod, *, follow=False, tail=None, since=None, timestamps=False, whole_lines=False, idle_seconds=None):
        assert timestamps
        self.asked.append({"pod": pod, "follow": follow, "tail": tail, "since": since, "idle": idle_seconds})
        return self._lines(follow, tail, since, whole_lines)

    def _lines(self, follow, tail, since, whole_lines):
        cut = self.cuts.pop(0) if self.cuts else None

        def chunks():
            left = cut
            for data in self._data(follow, tail, since):
                if left is not None and left <= len(data):
                    yield data[:left]
                    if self.clean:
                        return
                    raise ClusterError("lost", reason=DROPPED)
                left = None if left is None else left - len(data)
                yield data

        try:
            for line in lines(chunks(), whole=whole_lines):
                yield line.decode()
        except ClusterError:
            if not follow:
                raise

    def _data(self, follow, tail, since):
        lines = self.written if tail is None else self.written[len(self.written) - tail :] if tail else []
        for at, text in list(lines):
            if since is None or at[:19] >= since[:19]:
                yield f"{at} {text}".encode() + (self.end.encode() if (at, text) == self.written[-1] else b"\n")
        while follow and self.arrives:
            self.written.append(self.arrives.pop(0))
            at, text = self.written[-1]
            yield f"{at} {text}\n".encode()


def stamp(seconds, nanos=0):
    """A time as kubelets write it."""
    return f"2026-01-01T00:00:{seconds:02d}.{nanos:09d}Z"
