"""Steps captured once as CUDA graphs and replayed: no launch from the host costs more than the kernel it starts.

A step is straight-line code over static tensors. Where it moves from one lane to the next, the capture is cut: a graph a lane, and
between them mailboxes by which the lanes order themselves, without the host.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from specbatch.engine.graphs.kernels.scratch import use_lane
from specbatch.engine.graphs.lanes import Lane, Mailbox, kept_current
from specbatch.engine.memory import make_room_to_capture
from specbatch.engine.timing import Mark

Step = Callable[["Capture"], None]
Span = tuple[Lane, Mark, Mark]  # a lane at work, from when to when

_ALIGNED = 256  # bytes, as PyTorch's allocator has it: kernels are compiled for aligned pointers


class Capture:
    """Runs a step as it is.

    Args:
        lane: where the step begins.
    """

    def __init__(self, lane: Lane | None = None) -> None:
        self.lane = lane

    def to_lane(self, lane: Lane, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors of the lane before on another lane, which what follows runs on; themselves where it is the same.

        A step as it is runs seldom: the host waits for the lane before.
        """
        if self.lane is None or lane is self.lane:
            self.lane = lane
            return tensors
        self.lane.synchronize()
        self.lane = lane
        enter(lane)
        return tuple(tensor.to(lane.device) for tensor in tensors)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What a segment is given first.

    packed: of the lane before; place: in the mailbox's memory  # uint8 [bytes]
    """

    mailbox: Mailbox
    packed: Tensor
    place: Tensor


@dataclass(slots=True)
class _Segment:
    """What one lane does."""

    lane: Lane
    graph: torch.cuda.CUDAGraph
    arrival: _Arrival | None

    def replay(self, spans: list[Span] | None) -> None:
        """Queues it, and the copy before it."""
        lane, arrival = self.lane, self.arrival
        if lane.stream is None:
            self.graph.replay()
            return
        if arrival is not None:
            arrival.mailbox.post(arrival.packed, arrival.place)
            arrival.mailbox.take()
        start = lane.mark() if spans is not None else None
        lane.run(self.graph.replay)
        if spans is not None and start is not None:
            spans.append((lane, start, lane.mark()))
        if arrival is not None:
            arrival.mailbox.release()


class _GraphCapture(Capture):
    """Records a step, which begins on `lane`, as one graph a lane."""

    def __init__(self, lane: Lane, runner: CudaGraphRunner) -> None:
        super().__init__(lane)
        self.runner = runner
        self.segments: list[_Segment] = []
        self._outside: torch.cuda.Stream | None = None  # the stream to go back to while a graph is captured
        self._begin(lane, None)

    def to_lane(self, lane: Lane, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Ends the graph, and begins one on the other lane, to which the tensors will be copied."""
        if lane is self.lane:
            return tensors
        assert self.lane is not None, "see __init__"
        mailbox = self.runner.mailbox(self.lane, lane)
        packed = mailbox.outgoing(_size(tensors))
        for view, tensor in zip(_views(packed, tensors), tensors, strict=True):
            view.copy_(tensor)
        self.end()
        self.lane = lane
        place = mailbox.incoming(len(packed))
        self._begin(lane, _Arrival(mailbox, packed, place))
        return tuple(_views(place, tensors))

    def _begin(self, lane: Lane, arrival: _Arrival | None) -> None:
        enter(lane)
        stream, pool = self.runner.place_of(lane)
        segment = _Segment(lane, torch.cuda.CUDAGraph(), arrival)
        self._outside = torch.cuda.current_stream(lane.device)
        stream.wait_stream(self._outside)
        torch.cuda.set_stream(stream)
        make_room_to_capture(lane.device)
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

    Graphs of a lane share their memory: they never run at once, and what one leaves for another lies in static tensors.

    Args:
        lanes: that steps run on.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.lanes = lanes
        self._captured: dict[Hashable, list[_Segment]] = {}
        self._ran: set[Hashable] = set()
        self._places: dict[Lane, tuple[torch.cuda.Stream, Any]] = {}
        self._mailboxes: dict[tuple[Lane, Lane], Mailbox] = {}

    def __len__(self) -> int:
        return len(self._captured)

    def place_of(self, lane: Lane) -> tuple[torch.cuda.Stream, Any]:
        """Stream and memory of a lane's captures; always the same, since memory is shared within a stream only."""
        if lane not in self._places:
            self._places[lane] = torch.cuda.Stream(lane.device), torch.cuda.graph_pool_handle()
        return self._places[lane]

    def mailbox(self, source: Lane, destination: Lane) -> Mailbox:
        """For what segments leave for the one after them, which is queued at once."""
        key = source, destination
        if key not in self._mailboxes:
            self._mailboxes[key] = source.mailbox(destination)
        return self._mailboxes[key]

    def synchronize(self) -> None:
        """Waits for all that is queued where there are several lanes; what a single one leaves behind, the current stream orders."""
        if len(self.lanes) > 1:
            for lane in self.lanes:
                lane.synchronize()

    @torch.inference_mode()
    def run(self, key: Hashable, step: Step, lane: Lane, spans: list[Span] | None = None) -> None:
        """Does a step: the first time as it is, which compiles its kernels; the second time it is captured; then replayed.

        Args:
            key: of the step.
            step: what to do.
            lane: where it begins.
            spans: given when which of several lanes was at work.
        """
        if lane.device.type != "cuda":
            step(Capture(lane))
            return
        if lane.stream is None:
            torch.cuda.set_device(lane.device)  # of this thread: Triton launches on the current one
        if key in self._ran and key not in self._captured:
            self._captured[key] = self._capture(step, lane)
        segments = self._captured.get(key)
        if segments is None:
            self.as_it_is(step, lane)
            self._ran.add(key)
            return
        for segment in segments:
            segment.replay(spans)

    def as_it_is(self, step: Step, lane: Lane) -> None:
        """Does a step without a capture; the host waits where it moves between lanes."""
        if lane.stream is None:
            use_lane(lane.number)
            step(Capture(lane))
            return
        self.synchronize()
        with kept_current(*{other.device for other in self.lanes}):
            enter(lane)
            step(Capture(lane))
            self.synchronize()

    def _capture(self, step: Step, lane: Lane) -> list[_Segment]:
        for other in self.lanes:
            other.synchronize()
        with kept_current(*{other.device for other in self.lanes}):
            capture = _GraphCapture(lane, self)
            try:
                step(capture)
                capture.end()
            except BaseException:
                with (
                    warnings.catch_warnings(action="ignore"),
                    suppress(RuntimeError),
                ):  # it may be empty, or invalid by now
                    capture.end()  # so that the device can be used again
                raise
        return capture.segments


def enter(lane: Lane) -> None:
    """What this thread launches from now on, kernels of ours among it, is queued on the lane."""
    use_lane(lane.number)
    if lane.device.type == "cuda":
        torch.cuda.set_device(lane.device)
        if lane.stream is not None:
            torch.cuda.set_stream(lane.stream)


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(-(-tensor.nbytes // _ALIGNED) * _ALIGNED for tensor in tensors)


def _views(packed: Tensor, like: Sequence[Tensor]) -> Iterator[Tensor]:
    """Memory as tensors one after the other, each aligned.  # uint8 [bytes]"""
    at = 0
    for tensor in like:
        yield packed[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        at += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
