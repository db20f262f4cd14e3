"""Forwards of a transformers model as CUDA graphs: launched one by one by its Python, kernels wait for the host twenty times as long as they work.

A forward is captured for a number of rows, of tokens a row and an extent, each rounded up to few sizes: rows beyond the batch are
padding, whose KV goes to the bins of free slots. A shape is run as it is when it is first met, captured when it is met again, and
replayed from then on. A model whose code cannot be captured, since it asks the device for a number, is run as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from specbatch.engine.general.cache import SlotView
from specbatch.engine.memory import make_room_to_capture

MOST = 96  # graphs of a model: what is beyond is run as it is
_SMALL = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
_STEP = 64  # rows between the larger sizes
_LEAST_EXTENT = 64

Forward = Callable[[Tensor, SlotView, bool], Tensor]
Recorder = Callable[[Callable[[], None]], Callable[[], None]]
"""Of a step, what runs it again."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a forward: rows, tokens of each, positions that it attends to, whether logits are those of the last column alone."""

    rows: int
    tokens: int
    extent: int
    last_only: bool


@dataclass(slots=True)
class _Recorded:
    token_ids: Tensor
    positions: Tensor
    replay: Callable[[], None]
    logits: Tensor


class CapturedForwards:
    """A model's forwards.

    why_not: what keeps them from being captured, found at the first attempt; None: nothing so far

    Args:
        forward: of token ids, a view and whether the last column's logits are enough, to logits.
        slots: rows that the model's cache holds.
        max_positions: of a slot.
        device: of the model.
        record: captures a step there.
    """

    def __init__(
        self, forward: Forward, slots: int, max_positions: int, device: torch.device, record: Recorder
    ) -> None:
        self._forward, self._record, self._device = forward, record, device
        self.slots, self.max_positions = slots, max_positions
        self.why_not: str | None = None
        self._met: set[Shape] = set()
        self._recorded: dict[Shape, _Recorded] = {}
        self._given: Tensor | None = None  # where graphs leave logits: each by itself would keep as much memory

    def __len__(self) -> int:
        return len(self._recorded)

    @torch.inference_mode()
    def probe(self) -> None:
        """Captures a forward of one token, to see whether it can be done."""
        if not self._recorded and self.why_not is None:
            self._capture(Shape(1, 1, self._extent(1), last_only=False))

    def run(self, token_ids: Tensor, view: SlotView, *, last_only: bool) -> Tensor:
        """As the model's forward; logits are there until the next one.  # int64 [n, tokens] -> [n, tokens or 1, vocab]"""
        if not isinstance(view.rows, slice) or view.rows.start or view.extent is None or view.calls is not None:
            return self._forward(token_ids, view, last_only)
        count, tokens = token_ids.shape
        shape = Shape(self._rows(count), tokens, self._extent(view.extent), last_only)
        recorded = self._recorded.get(shape)
        if recorded is None and shape in self._met and self.why_not is None and len(self._recorded) < MOST:
            recorded = self._capture(shape)
        if recorded is None:
            self._met.add(shape)
            return self._forward(token_ids, view, last_only)
        recorded.token_ids[:count].copy_(token_ids)
        recorded.positions[:count].copy_(view.positions)
        if count < shape.rows:
            recorded.positions[count:] = -1
        recorded.replay()
        return recorded.logits[:count]

    def _capture(self, shape: Shape) -> _Recorded | None:
        token_ids = torch.zeros(shape.rows, shape.tokens, dtype=torch.int64, device=self._device)
        positions = torch.full_like(token_ids, -1)

        def step() -> Tensor:
            view = SlotView(slice(0, shape.rows), positions, shape.extent)
            return self._forward(token_ids, view, shape.last_only)

        def leave() -> None:
            logits.copy_(step())

        logits = self._place_for(step())  # what is made when such a shape first comes is made before the capture, too
        try:
            replay = self._record(leave)
            token_ids += 1 + torch.arange(shape.rows, device=self._device)[:, None] % 8  # others than were recorded
            replay()
            if not torch.allclose(logits, step(), rtol=0.02, atol=0.02 * float(logits.abs().amax())):
                raise RuntimeError("a replay gives other logits")  # noqa: TRY301  # said as whatever else stands in the way
        except Exception as error:  # noqa: BLE001 - whatever a model's code raises that asks the device in a capture
            first = next(iter(str(error).strip().splitlines()), "")
            self.why_not = f"{type(error).__name__}: {first}"
            return None
        self._recorded[shape] = _Recorded(token_ids, positions, replay, logits)
        return self._recorded[shape]

    def _place_for(self, logits: Tensor) -> Tensor:
        """Memory of their shape, which other graphs use, too; those recorded before keep theirs where more is needed."""
        if self._given is None or self._given.numel() < logits.numel():
            self._given = torch.empty_like(logits).flatten()
        return self._given[: logits.numel()].view(logits.shape)

    def _rows(self, count: int) -> int:
        larger = -(-count // _STEP) * _STEP
        return min(next((size for size in _SMALL if count <= size), larger), self.slots)

    def _extent(self, extent: int) -> int:
        """The next power of two, or one and a half times one."""
        power = max(_LEAST_EXTENT, 1 << (extent - 1).bit_length())
        return min(power * 3 // 4 if power > _LEAST_EXTENT and extent <= power * 3 // 4 else power, self.max_positions)


def recorder(device: torch.device) -> Recorder:
    """Captures on a GPU; all graphs share the memory that they work in, since one runs after the other."""
    stream, graphs = torch.cuda.Stream(device), list[torch.cuda.CUDAGraph]()

    def record(step: Callable[[], None]) -> Callable[[], None]:
        graph, pool = torch.cuda.CUDAGraph(), graphs[0].pool() if graphs else None
        torch.cuda.synchronize(device)
        with torch.cuda.device(device):
            with torch.cuda.stream(stream):
                make_room_to_capture(device)
            with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
                step()
        graphs.append(graph)
        return graph.replay

    return record
