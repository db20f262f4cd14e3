"""Lanes without GPUs: threads that do what is queued in its order, each thing after a random wait, beside one another.

They keep the promises of CUDA's streams and events, and no other: what a lane reads that another one writes without a mailbox between
them comes out wrong here.
"""

import itertools
import queue
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from specbatch.engine.graphs import lane_assignment
from specbatch.engine.graphs import pair as pairs
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner, _size, _views
from specbatch.engine.graphs.lanes import Lane, Mailbox, make_lanes

PATIENCE = 60  # seconds after which what waits is stuck
sys.setswitchinterval(0.0005)  # as a run has it: a lane whose turn has come does not wait for another's Python


class Moment:
    """A mark in a lane's queue."""

    def __init__(self):
        self.reached = threading.Event()
        self.seconds = 0.0

    def reach(self):
        self.seconds = time.perf_counter()
        self.reached.set()

    def synchronize(self):
        assert self.reached.wait(PATIENCE), "a lane is stuck"

    def query(self):
        return self.reached.is_set()

    def elapsed_time(self, end):
        return 1000 * (end.seconds - self.seconds)


class ThreadLane(Lane):
    """A lane that is a thread."""

    def __init__(self, device, number, longest, failures):
        super().__init__(device, number)
        self.wait = random.Random(number)
        self.longest = longest  # seconds before each thing that is done
        self.failures = failures
        self.queue = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    @torch.inference_mode()
    def _work(self):
        while (work := self.queue.get()) is not None:
            time.sleep(self.wait.random() * self.longest)
            try:
                work()
            except Exception as error:  # noqa: BLE001  # whatever it is, the test shows it
                self.failures.append(error)

    def run(self, work):
        self.queue.put(work)

    def mark(self):
        moment = Moment()
        self.run(moment.reach)
        return moment

    def synchronize(self):
        self.mark().synchronize()

    def mailbox(self, destination):
        return ThreadMailbox(self, destination)


class ThreadMailbox(Mailbox):
    """As events of CUDA have it: a wait is for what was recorded last when it was queued."""

    def __init__(self, source, destination):
        super().__init__(source, destination)
        self.posted, self.read = Moment(), Moment()
        self.read.reach()

    def post(self, tensor, place):
        read, self.posted = self.read, Moment()
        posted = self.posted

        def work():
            read.synchronize()
            place.copy_(tensor)
            posted.reach()

        self.source.run(work)

    def take(self):
        self.destination.run(self.posted.synchronize)

    def release(self):
        self.read = Moment()
        self.destination.run(self.read.reach)


class ThreadCapture(Capture):
    """A step on its way: it has its turn in each lane's queue."""

    def __init__(self, turns):
        self.turns = turns
        self.at = 0
        self.lane = turns[0].lane
        turns[0].begin.synchronize()

    def to_lane(self, lane, *tensors):
        if lane is self.lane:
            return tensors
        here, there = self.turns[self.at : self.at + 2]
        assert there.lane is lane
        there.read_before.synchronize()
        place = there.box.incoming(_size(tensors))
        for view, tensor in zip(_views(place, tensors), tensors, strict=True):
            view.copy_(tensor)
        here.finish()
        there.begin.synchronize()
        self.at, self.lane = self.at + 1, lane
        return tuple(_views(place, tensors))


class _Turn:
    """A lane does nothing else between begin and finish."""

    def __init__(self, lane, box):
        self.lane, self.box = lane, box
        self.begin, self.end = Moment(), Moment()
        if box is not None:
            self.read_before, box.read = box.read, Moment()
            self.read = box.read
        lane.run(lambda: (self.begin.reach(), self.end.synchronize()))

    def finish(self):
        if self.box is not None:
            self.read.reach()
        self.end.reach()


class ThreadGraphs(CudaGraphRunner):
    """Steps that run beside others once it is known which lanes they pass through."""

    def __init__(self, lanes):
        super().__init__(lanes)
        self.paths = {}
        self.workers = ThreadPoolExecutor(64)

    def synchronize(self):
        for lane in self.lanes:
            lane.synchronize()

    def run(self, key, step, lane, spans=None):
        if key not in self.paths:
            self.synchronize()
            capture = _Path(lane)
            with torch.inference_mode():
                step(capture)
            self.paths[key] = capture.lanes
            return
        path = self.paths[key]
        turns = [_Turn(path[0], None)]
        turns += [_Turn(there, self.mailbox(here, there)) for here, there in itertools.pairwise(path)]
        self.workers.submit(self._go, step, turns)

    @torch.inference_mode()
    def _go(self, step, turns):
        try:
            step(ThreadCapture(turns))
        except Exception as error:  # noqa: BLE001  # whatever it is, the test shows it
            self.lanes[0].failures.append(error)
        finally:
            for turn in turns:
                turn.finish()


class _Path(Capture):
    """Notes the lanes of a step."""

    def __init__(self, lane):
        super().__init__(lane)
        self.lanes = [lane]

    def to_lane(self, lane, *tensors):
        if lane is not self.lane:
            self.lane = lane
            self.lanes.append(lane)
            return tuple(tensor.clone() for tensor in tensors)
        return tensors


def use_threads(monkeypatch, longest=0.001, last=None):
    """The pairs that are made from now on have lanes of threads, the last of which may wait longer; returns where their failures are kept."""
    failures = []

    def thread_lanes(devices):
        if len(devices) == 1:
            return make_lanes(devices)
        waits = [longest] * (len(devices) - 1) + [last or longest]
        return [ThreadLane(*of, failures) for of in zip(devices, range(len(devices)), waits, strict=True)]

    def graphs(lanes):
        return ThreadGraphs(lanes) if len(lanes) > 1 else CudaGraphRunner(lanes)

    monkeypatch.setattr(lane_assignment, "make_lanes", thread_lanes)
    monkeypatch.setattr(pairs, "CudaGraphRunner", graphs)
    return failures
