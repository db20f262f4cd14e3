"""The attention kernels alone beside PyTorch's, on the GPU: python -m benchmarks.attention [--only 8B] [--sweep | --flex | --fp8]

Times are of replayed CUDA graphs, in which each call is of another layer, of so many that the L2 cache cannot hold their KV.
GB/s count the KV that rows hold, without what pages or a dense cache have beyond. flash is
torch.ops.aten._flash_attention_forward, given the rows' lengths: its KV lies in one piece a row, ours in scattered pages.
flex is flex_attention, compiled and tuned for each shape, which takes its time: --flex has a few shapes of rows, and nothing else.
--fp8 has pages in FP8 in flash's place; their GB/s count what FP8 takes, and their error is from what these pages stand for.
error is the largest distance of three rows' outputs from the reference in float32.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from functools import partial

import torch
import triton
from torch import Tensor

from benchmarks.inputs.attention_cases import HEAD_DIM, SCALE, SHAPES, Case, build, error, in_fp8, kv_bytes
from benchmarks.peers.attention_peers import flash, flex, flex_paged
from specbatch.engine.graphs.kernels.attention import attend_rows, rows_launch
from specbatch.engine.graphs.kernels.over_pages import Launch
from specbatch.engine.graphs.kernels.prefill_attention import attend_packed, packed_launch

BANDWIDTH = 3.0e12  # bytes a second that an H100's memory gives at best
ROWS = [
    (1, 1, 200),
    (1, 6, 200),
    (1, 6, 4000),
    (8, 5, 300),
    (32, 4, 200),
]  # rows, new tokens of each, positions of each
ROWS += [(128, 1, 200), (128, 3, 200), (512, 1, 200), (512, 1, 600)]
PROMPTS = [(16, 128), (8, 512), (2, 2048)]  # rows, tokens
FLEX = [(1, 6, 4000), (32, 4, 200), (128, 2, 200), (512, 1, 200)]
SWEPT = [("8B", (1, 6, 200)), ("1.7B", (1, 1, 200)), ("8B", (1, 6, 4000)), ("8B", (32, 4, 200)), ("8B", (512, 1, 200))]


def ours(case: Case, launch: Launch | None = None) -> Callable[[int], Tensor]:
    """Attention of a layer.  # -> [T, heads, D]"""
    if case.tiles is not None:
        tiles = case.tiles
        return lambda layer: attend_packed(case.q, case.pages, layer, tiles, SCALE, launch=launch)
    q, slots, first = case.q.unflatten(0, (-1, case.new)), case.slots, case.first
    return lambda layer: attend_rows(q, case.pages, layer, slots, first, SCALE, launch=launch).flatten(0, 1)


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


def measure(case: Case, contestant: Callable[[Case], Callable[[int], Tensor]]) -> tuple[float | None, str]:
    """Seconds, and the figures to print, or why there are none."""
    try:
        call = contestant(case)
        wrong = error(case, call(case.layers - 1), case.layers - 1)
        time = seconds(call, case.layers)
    except Exception as problem:  # noqa: BLE001 - one contestant's failure is a line of the table
        return None, f"{type(problem).__name__}: {' '.join(str(problem).split())[:160]}"
    return time, f"{time * 1e6:8.1f} us {rate(case, time)}  {wrong:.4f}"


def rate(case: Case, time: float) -> str:
    """TFLOP/s of prompts, of which a position sees half; GB/s of others, and their part of what the memory can give."""
    if case.tiles is not None:
        products = sum(n * (n + 1) // 2 for n in case.lengths.tolist())
        return f"{4 * case.q.shape[1] * HEAD_DIM * products / time / 1e12:6.0f} TFLOP/s"
    pace = kv_bytes(case.pages.keys[0].shape[1], case.lengths, case.pages.keys[0].dtype) / time
    return f"{pace / 1e9:6.0f} GB/s {pace / BANDWIDTH:4.0%}"


def compare(only: str | None, *, fp8: bool = False) -> None:
    """The table of all cases."""
    other = "pages in FP8, then what these take of our time" if fp8 else "flash, then how many times as fast ours is"
    print(f"{'model':5} {'rows':>4} {'new':>5} {'length':>6} | ours, then {other}")
    for shape in SHAPES:
        long = [(128, 1, 2000), (128, 4, 2000), (512, 1, 2000)] if fp8 else []
        for rows, new, length in [*ROWS, *long, *((rows, tokens, tokens) for rows, tokens in PROMPTS)]:
            if only in (None, shape):
                case = build(shape, rows, new, length)
                (one, mine), (two, theirs) = (
                    measure(case, ours),
                    measure(in_fp8(case) if fp8 else case, ours if fp8 else flash),
                )
                ratio = f"{two / one:5.2f}x" if one and two else ""
                print(f"{shape:5} {rows:4} {new:5} {length:6} | {mine} | {theirs} | {ratio}", flush=True)
                del case


def against_flex(only: str | None) -> None:
    """A few cases with flex_attention among the contestants, over pages too in one of them."""
    for shape, (rows, new, length) in itertools.product(SHAPES, FLEX):
        if only not in (None, shape):
            continue
        case = build(shape, rows, new, length)
        print(f"{shape} {rows} x {new} at {length}")
        contestants = {"ours": ours, "flash": flash, "flex": flex}
        if rows == 32:
            contestants["flex, paged"] = flex_paged
        for name, contestant in contestants.items():
            print(f"  {name:11} {measure(case, contestant)[1]}", flush=True)
        del case


def sweep() -> None:
    """Launches of the main cases, best first; the one that is used is marked."""
    for shape, (rows, new, length) in [*SWEPT, ("8B", (8, 512, 512))]:
        case = build(shape, rows, new, length)
        heads, kv_heads = SHAPES[shape]
        if case.tiles is not None:
            used = packed_launch(heads // kv_heads, HEAD_DIM, case.q, case.pages.keys[0])
            choices = itertools.product((4, 8), (2, 3, 4), (1,), (1, 2))
        else:
            block_m = max(16, triton.next_power_of_2(new * heads // kv_heads))
            used = rows_launch(
                rows * kv_heads, case.pages.table.shape[1], block_m, HEAD_DIM, case.q, case.pages.keys[0]
            )
            splits = {1, used.splits // 2 or 1, used.splits, used.splits * 2} if rows * kv_heads <= 256 else {1}
            choices = itertools.product((2, 4, 8), (2, 3, 4), sorted(splits), (1,))
        print(f"{shape} {rows} x {new} at {length}")
        found = []
        for launch in (Launch(*choice) for choice in choices):
            time, line = measure(case, partial(ours, launch=launch))
            found.append((time or math.inf, f"  {line}  {launch}{'  <- used' if launch == used else ''}"))
        print("\n".join(line for _, line in sorted(found)), flush=True)
        del case


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=SHAPES, help="one model's shapes")
    parser.add_argument("--fp8", action="store_true", help="pages in FP8 beside those in bfloat16")
    parser.add_argument("--sweep", action="store_true", help="other warps, stages and splits of the main cases")
    parser.add_argument(
        "--flex", action="store_true", help="a few cases beside flex_attention: five compilations a model"
    )
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(torch.cuda.get_device_name(), torch.__version__, triton.__version__)
    if arguments.sweep:
        sweep()
    elif arguments.flex:
        against_flex(arguments.only)
    else:
        compare(arguments.only, fp8=arguments.fp8)


if __name__ == "__main__":
    main()
