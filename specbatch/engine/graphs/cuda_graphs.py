"""Steps captured once as CUDA graphs and replayed: no launch from the host costs more than the kernel it starts.

A step is straight-line code over static tensors. Where it moves from one device to the next, the capture is cut: a graph a
device, and between them copies that the devices' streams order among themselves, without the host.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Step = Callable[["Capture"], None]


class Capture:
    """Runs a step as it is. A device move is a copy."""

    def to_device(self, device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors on another device, which what follows runs on; themselves where they are there already."""
        if device.type == "cuda":
            torch.cuda.set_device(device)  # Triton launches on the current device, wherever the tensors are
        return tuple(tensor.to(device, non_blocking=True) for tensor in tensors)


@dataclass(slots=True)
class _Segment:
    """What one device does, and what it is given first.

    arrivals: (from another device, here)
    """

    device: torch.device
    graph: torch.cuda.CUDAGraph
    arrivals: list[tuple[Tensor, Tensor]]


class _GraphCapture(Capture):
    """Records a step as one graph a device.

    Args:
        device: where the step begins.
        places: stream and memory of captures by device; always the same, since memory is shared within a stream only.
    """

    def __init__(self, device: torch.device, places: dict[torch.device, tuple[torch.cuda.Stream, Any]]) -> None:
        self.places = places
        self.segments: list[_Segment] = []
        self._outside: torch.cuda.Stream | None = None  # the stream to go back to while a graph is captured
        self._begin(device, [])

    def to_device(self, device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Ends the graph, and begins one on the other device, to which the tensors will be copied."""
        moving = [tensor for tensor in tensors if tensor.device != device]
        if not moving:
            return tensors
        self.end()
        arrivals = [(tensor, torch.empty_like(tensor, device=device)) for tensor in moving]
        here = {id(source): arrived for source, arrived in arrivals}
        self._begin(device, arrivals)
        return tuple(here.get(id(tensor), tensor) for tensor in tensors)

    def _begin(self, device: torch.device, arrivals: list[tuple[Tensor, Tensor]]) -> None:
        torch.cuda.set_device(device)
        if device not in self.places:
            self.places[device] = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()
        stream, pool = self.places[device]
        segment = _Segment(device, torch.cuda.CUDAGraph(), arrivals)
        self._outside = torch.cuda.current_stream(device)
        stream.wait_stream(self._outside)
        torch.cuda.set_stream(stream)
        # Not torch.cuda.graph(): it collects garbage before each of a hundred captures. Other threads may use CUDA meanwhile.
        segment.graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        self.segments.append(segment)

    def end(self) -> None:
        """Ends the graph that is being captured."""
        outside, self._outside = self._outside, None
        if outside is None:
            return
        try:
            self.segments[-1].graph.capture_end()
        finally:
            torch.cuda.set_stream(outside)


class CudaGraphRunner:
    """The captured steps of one runner.

    Graphs share their memory: they never run at once, and what one leaves for another lies in static tensors.

    Args:
        device: on which every step begins.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._captured: dict[Hashable, list[_Segment]] = {}
        self._ran: set[Hashable] = set()
        self._places: dict[torch.device, tuple[torch.cuda.Stream, Any]] = {}

    def __len__(self) -> int:
        return len(self._captured)

    @torch.inference_mode()
    def run(self, key: Hashable, step: Step) -> None:
        """Does a step: the first time as it is, which compiles its kernels; the second time it is captured; then replayed."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # of this thread: Triton launches on the current one
            if key in self._ran and key not in self._captured:
                self._captured[key] = self._capture(step)
        segments = self._captured.get(key)
        if segments is None:
            step(Capture())
            self._ran.add(key)
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            return
        for segment in segments:
            if len(segments) > 1:
                torch.cuda.set_device(segment.device)
            for source, arrived in segment.arrivals:
                arrived.copy_(source, non_blocking=True)
            segment.graph.replay()
        if len(segments) > 1:
            torch.cuda.set_device(self.device)

    def _capture(self, step: Step) -> list[_Segment]:
        torch.cuda.synchronize(self.device)
        capture = _GraphCapture(self.device, self._places)
        try:
            step(capture)
            capture.end()
        except BaseException:
            with suppress(RuntimeError):  # the capture is invalid by now: ended so that the device can be used again
                capture.end()
            raise
        finally:
            torch.cuda.set_device(self.device)
        return capture.segments
