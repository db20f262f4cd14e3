"""Lanes: queues of work that run beside each other, each on one device, and the mailboxes that order them among themselves.

A static tensor belongs to one lane: only work queued there reads or writes it, in the order in which the host queues it. So groups of
rows share captures, KV pools and scratch memory without a wait, and what one round leaves behind the next one of that lane finds. What
another lane needs goes through a mailbox, whose two events make the lanes wait for each other; the host waits for none of it.

Where both models are on one device there is one lane, which is the current stream: no events, nothing to wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from specbatch.engine.timing import Mark

_T = TypeVar("_T")


class Lane:
    """A queue of work on one device.

    Args:
        device: of everything that is queued.
        number: of the lane; kernels keep their scratch memory by it.
        stream: None: the current stream, whichever that is; a CPU does what is queued at once.
    """

    def __init__(self, device: torch.device, number: int = 0, stream: torch.cuda.Stream | None = None) -> None:
        self.device = device
        self.number = number
        self.stream = stream
        self._beside: dict[torch.device, torch.cuda.Stream] = {}

    def run(self, work: Callable[[], _T]) -> _T:
        """Queues work, and returns what it does. The thread's current streams and device may be others afterwards: see kept_current."""
        if self.stream is not None:
            torch.cuda.set_stream(self.stream)  # makes its device the current one too
        return work()

    def mark(self) -> Mark:
        """This moment in the queue; on a CPU this moment."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self.stream or torch.cuda.current_stream(self.device))
        return event

    def synchronize(self) -> None:
        """Waits for all that is queued."""
        if self.stream is not None:
            self.stream.synchronize()
        elif self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def beside(self, device: torch.device) -> torch.cuda.Stream:
        """A stream of another device for copies from here, where nothing else runs.

        PyTorch orders a copy between devices with the current streams of both: with that of a lane it would wait for the lane's work.
        """
        if device not in self._beside:
            self._beside[device] = torch.cuda.Stream(device)
        return self._beside[device]

    def mailbox(self, destination: Lane) -> Mailbox:
        """For tensors that go from here to another lane."""
        return Mailbox(self, destination)


class Mailbox:
    """Memory in which a lane leaves tensors for another one.

    What is posted waits until what was taken before has been read, and what is taken until it has been posted.
    """

    def __init__(self, source: Lane, destination: Lane) -> None:
        self.source = source
        self.destination = destination
        self._outgoing = torch.empty(0, dtype=torch.uint8, device=source.device)
        self._incoming = torch.empty(0, dtype=torch.uint8, device=destination.device)
        if source.stream is not None:
            self._posted, self._read = torch.cuda.Event(), torch.cuda.Event()
            self._beside = source.beside(destination.device)

    def outgoing(self, count: int) -> Tensor:
        """That many bytes on the source lane, always the same ones. Captures that have views of smaller memory keep it alive.  # uint8 [count]"""
        if len(self._outgoing) < count:
            self._outgoing = torch.empty(count, dtype=torch.uint8, device=self.source.device)
        return self._outgoing[:count]

    def incoming(self, count: int) -> Tensor:
        """As outgoing, on the destination lane.  # uint8 [count]"""
        if len(self._incoming) < count:
            self._incoming = torch.empty(count, dtype=torch.uint8, device=self.destination.device)
        return self._incoming[:count]

    def post(self, tensor: Tensor, place: Tensor) -> None:
        """Queues a copy on the source lane.

        Args:
            tensor: of the source lane, contiguous.
            place: from `incoming`, or any memory that only this mailbox fills.
        """
        stream = self.source.stream
        if stream is None:
            place.copy_(tensor)
            return
        torch.cuda.set_stream(self._beside)
        torch.cuda.set_stream(stream)
        stream.wait_event(self._read)
        place.copy_(tensor, non_blocking=True)
        self._posted.record(stream)

    def take(self) -> None:
        """What is queued on the destination lane from now on may read what was posted last."""
        if self.destination.stream is not None:
            self.destination.stream.wait_event(self._posted)

    def release(self) -> None:
        """What was queued there since `take` has read it: the next may be posted over it."""
        if self.destination.stream is not None:
            self._read.record(self.destination.stream)


def make_lanes(devices: Sequence[torch.device]) -> list[Lane]:
    """A lane for each of these, or one for all where there is but one."""
    if len(devices) == 1:
        return [Lane(devices[0])]
    streams = [torch.cuda.Stream(device) if device.type == "cuda" else None for device in devices]
    return [Lane(device, number, stream) for number, (device, stream) in enumerate(zip(devices, streams, strict=True))]


@contextmanager
def kept_current(*devices: torch.device) -> Iterator[None]:
    """Afterwards the thread's current device, and the current streams of these devices, are what they were: once around all that a step queues."""
    here = torch.cuda.current_device()
    streams = [torch.cuda.current_stream(device) for device in devices]
    try:
        yield
    finally:
        for stream in streams:
            torch.cuda.set_stream(stream)
        torch.cuda.set_device(here)
