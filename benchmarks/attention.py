"""The attention kernels alone against torch's flash attention, on the GPU: python -m benchmarks.attention [--only 8B] [--sweep]

Times are of replayed CUDA graphs, in which each call is of another layer, of so many that the L2 cache cannot hold their KV.
GB/s count the KV that rows hold, without what pages or a dense cache have beyond. flash is
torch.ops.aten._flash_attention_forward, given the rows' lengths: its KV lies in one piece a row, ours in scattered pages.
error is the largest distance of three rows' outputs from the reference in float32.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from specbatch.engine.gpu.kernels.attention import attend_rows, rows_launch
from specbatch.engine.gpu.kernels.over_pages import Launch
from specbatch.engine.gpu.kernels.prefill_attention import attend_packed, packed_launch
from specbatch.engine.gpu.paging import PAGE, TILE, Pages, Tiles
from specbatch.engine.gpu.reference import TorchOps

BANDWIDTH = 3.0e12  # bytes a second that an H100's memory gives at best
WIDTH = 64  # pages of a table's line: rows of up to 4096 positions
HEAD_DIM = 128
SCALE = HEAD_DIM**-0.5
SHAPES = {"8B": (32, 8), "1.7B": (16, 8)}  # heads, kv_heads
ROWS = [
    (1, 1, 200),
    (1, 6, 200),
    (1, 6, 4000),
    (8, 5, 300),
    (32, 4, 200),
]  # rows, new tokens of each, positions of each
ROWS += [(128, 1, 200), (128, 3, 200), (512, 1, 200), (512, 1, 600)]
PROMPTS = [(16, 128), (8, 512), (2, 2048)]  # rows, tokens
SWEPT = [("8B", (1, 6, 200)), ("1.7B", (1, 1, 200)), ("8B", (1, 6, 4000)), ("8B", (32, 4, 200)), ("8B", (512, 1, 200))]


@dataclass(frozen=True)
class Case:
    """Rows with KV in pages, and the same KV in one piece.

    q: [T, heads, D]
    tiles: of prompts; None: `new` tokens of each row
    dense: keys and values of each layer [B, L, kv_heads, D]
    """

    q: Tensor
    pages: Pages
    lengths: Tensor  # int64 [B], with the new tokens
    new: int
    tiles: Tiles | None
    dense: list[tuple[Tensor, Tensor]]

    @property
    def first(self) -> Tensor:
        """Position of each row's first new token."""
        return self.lengths - self.new

    @property
    def slots(self) -> Tensor:
        """Row b is in slot b."""
        return torch.arange(len(self.lengths), device=self.q.device)

    @property
    def layers(self) -> int:
        """How many there are to rotate over."""
        return len(self.pages.keys)


def build(shape: str, rows: int, new: int, length: int, device: str = "cuda") -> Case:
    """Random rows; several are between 3/4 and 5/4 of `length` long, prompts (new == length) all the same."""
    heads, kv_heads = SHAPES[shape]
    prompts = new == length
    lengths = torch.full((rows,), length)
    if rows > 1 and not prompts:
        lengths = (length * (0.75 + 0.5 * torch.rand(rows))).long()
    held = ((lengths + PAGE - 1) // PAGE).tolist()
    table = torch.zeros(rows + 1, max(WIDTH, *held), dtype=torch.int32)
    for slot, numbers in enumerate((torch.randperm(sum(held)) + 1).split(held)):
        table[slot, : len(numbers)] = numbers
    layers = min(160, max(4, math.ceil(120e6 / _bytes(kv_heads, lengths))))
    options = {"device": device, "dtype": torch.bfloat16}
    kv = [[torch.randn(1 + sum(held), kv_heads, PAGE, HEAD_DIM, **options) for _ in range(layers)] for _ in range(2)]
    pages = Pages(kv[0], kv[1], table.to(device))
    taken = pages.table[:rows, : max(held)].long()
    dense = [tuple(x[taken].transpose(2, 3).flatten(1, 2) for x in layer) for layer in zip(*kv, strict=True)]
    tiles = None
    if prompts:
        cut = [(b, b * new + i, i, min(TILE, new - i)) for b in range(rows) for i in range(0, new, TILE)]
        tiles = Tiles(torch.tensor(cut, dtype=torch.int32, device=device))
    q = torch.randn(rows * new, heads, HEAD_DIM, **options)
    return Case(q, pages, lengths.to(device), new, tiles, dense)


def ours(case: Case, launch: Launch | None = None) -> Callable[[int], Tensor]:
    """Attention of a layer.  # -> [T, heads, D]"""
    if case.tiles is not None:
        tiles = case.tiles
        return lambda layer: attend_packed(case.q, case.pages, layer, tiles, SCALE, launch)
    q, slots, first = case.q.unflatten(0, (-1, case.new)), case.slots, case.first
    return lambda layer: attend_rows(q, case.pages, layer, slots, first, SCALE, launch).flatten(0, 1)


def flash(case: Case) -> Callable[[int], Tensor]:
    """The same of torch's flash attention; prompts are all of the dense cache, which then is packed without gaps."""
    rows, longest = case.dense[0][0].shape[:2]
    edges = torch.arange(rows + 1, dtype=torch.int32, device=case.q.device)
    edges_q, edges_k, used = edges * case.new, edges * longest, case.lengths.int()

    def call(layer: int) -> Tensor:
        keys, values = (x.flatten(0, 1) for x in case.dense[layer])
        return torch.ops.aten._flash_attention_forward(  # noqa: SLF001 - what torch's own varlen attention calls
            case.q, keys, values, edges_q, edges_k, case.new, longest, 0.0, True, False, scale=SCALE, seqused_k=used
        )[0]

    return call


def seconds(call: Callable[[int], Tensor], layers: int) -> float:
    """Of a call: the best of some replays of a graph with a call of each layer."""
    for layer in range(2):  # compiles, and allocates what lives on, before the capture
        call(layer)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for layer in range(layers):
            call(layer)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    best = math.inf
    for _ in range(6):
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3 / layers)
    return best


def error(case: Case, out: Tensor, layer: int) -> float:
    """Largest distance of the outputs of the first, the middle and the last row from the reference's."""
    rows = len(case.lengths)
    some = torch.tensor(sorted({0, rows // 2, rows - 1}), device=out.device)
    table = case.pages.table[some].long()
    keys, values = (x[layer][table].flatten(0, 1).float() for x in (case.pages.keys, case.pages.values))
    own = Pages([keys], [values], torch.arange(table.numel(), device=out.device).view(table.shape))
    q, out = (x.unflatten(0, (rows, case.new))[some].float() for x in (case.q, out))
    expected = TorchOps().attend_rows(q, own, 0, torch.arange(len(some), device=out.device), case.first[some], SCALE)
    return (out - expected).abs().max().item()


def measure(case: Case, call: Callable[[int], Tensor]) -> tuple[float | None, str]:
    """Seconds, and the figures to print, or why there are none."""
    try:
        wrong = error(case, call(case.layers - 1), case.layers - 1)
        time = seconds(call, case.layers)
    except Exception as problem:  # noqa: BLE001 - one contestant's failure is a line of the table
        return None, f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:80]}"
    return time, f"{time * 1e6:8.1f} us {rate(case, time)}  {wrong:.4f}"


def rate(case: Case, time: float) -> str:
    """TFLOP/s of prompts, of which a position sees half; GB/s of others, and their part of what the memory can give."""
    if case.tiles is not None:
        products = sum(n * (n + 1) // 2 for n in case.lengths.tolist())
        return f"{4 * case.q.shape[1] * HEAD_DIM * products / time / 1e12:6.0f} TFLOP/s"
    pace = _bytes(case.pages.keys[0].shape[1], case.lengths) / time
    return f"{pace / 1e9:6.0f} GB/s {pace / BANDWIDTH:4.0%}"


def compare(only: str | None) -> None:
    """The table of all cases."""
    print(f"{'model':5} {'rows':>4} {'new':>5} {'length':>6} | ours, then flash, then how many times as fast ours is")
    for shape in SHAPES:
        for rows, new, length in [*ROWS, *((rows, tokens, tokens) for rows, tokens in PROMPTS)]:
            if only in (None, shape):
                case = build(shape, rows, new, length)
                (one, mine), (two, theirs) = measure(case, ours(case)), measure(case, flash(case))
                ratio = f"{two / one:5.2f}x" if one and two else ""
                print(f"{shape:5} {rows:4} {new:5} {length:6} | {mine} | {theirs} | {ratio}", flush=True)
                del case


def sweep() -> None:
    """Launches of the main cases, best first; the one that is used is marked."""
    for shape, (rows, new, length) in [*SWEPT, ("8B", (8, 512, 512))]:
        case = build(shape, rows, new, length)
        heads, kv_heads = SHAPES[shape]
        if case.tiles is not None:
            used = packed_launch(heads // kv_heads, HEAD_DIM, case.q)
            choices = itertools.product((4, 8), (2, 3, 4), (1,), (1, 2))
        else:
            block_m = max(16, triton.next_power_of_2(new * heads // kv_heads))
            used = rows_launch(rows * kv_heads, case.pages.table.shape[1], block_m, HEAD_DIM, case.q)
            splits = {1, used.splits // 2 or 1, used.splits, used.splits * 2} if rows * kv_heads <= 256 else {1}
            choices = itertools.product((2, 4, 8), (2, 3, 4), sorted(splits), (1,))
        print(f"{shape} {rows} x {new} at {length}")
        found = []
        for launch in (Launch(*choice) for choice in choices):
            time, line = measure(case, ours(case, launch))
            found.append((time or math.inf, f"  {line}  {launch}{'  <- used' if launch == used else ''}"))
        print("\n".join(line for _, line in sorted(found)), flush=True)
        del case


def _bytes(kv_heads: int, lengths: Tensor) -> int:
    """KV of a layer, in 16 bits."""
    return 2 * 2 * int(lengths.sum()) * kv_heads * HEAD_DIM


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=SHAPES, help="one model's shapes")
    parser.add_argument("--sweep", action="store_true", help="other warps, stages and splits of the main cases")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(torch.cuda.get_device_name(), torch.__version__, triton.__version__)
    if arguments.sweep:
        sweep()
    else:
        compare(arguments.only)


if __name__ == "__main__":
    main()
