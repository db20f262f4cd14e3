"""Linears of few tokens beside cuBLAS on one GPU, for the shapes of Qwen3 8B, 1.7B and 0.6B in bfloat16.

    python -m benchmarks.linear             every shape at 1 to 512 tokens: about a minute
    python -m benchmarks.linear --sweep     the best configurations for kernels/linear_configs.py: about three

A figure is microseconds a call, in a CUDA graph of calls that go round over copies of the weights, so many that the L2 cache
never serves them; beside it its share of 3.0 TB/s, counting weights only. All of them go to
$OUT/linear_table.json, or of a sweep to $OUT/linear.json, where OUT is set.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.inputs.linear_cases import Call, Shape, Work, shapes
from specbatch.engine.graphs.kernels.linears import linear
from specbatch.engine.graphs.kernels.linears.linear_configs import (
    DOT_TOKENS,
    FMA_TOKENS,
    Config,
    configured,
    tensor_cores,
)

BANDWIDTH = 3.0e12  # bytes a second, the goal
SHARED = 227 << 10  # bytes of shared memory that a program may have
FOLDED = 16  # tokens, above which the norm is a kernel of its own
TOKENS = (1, 2, 6, 16, 32, 64, 128, 256, 512)


def measure(call: Call, copies: int, repeats: int = 7) -> float:
    """Microseconds a call."""
    stream = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph()
    calls = copies * math.ceil(4 / copies)
    with torch.cuda.stream(stream):
        call(0)
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            for i in range(calls):
                call(i % copies)
        graph.replay()
        times = []
        for _ in range(repeats):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
    return statistics.median(times) * 1e3 / calls


def measured(call: Call, copies: int) -> float | None:
    """As measure; None where the configuration does not suit the GPU."""
    try:
        return measure(call, copies)
    except Exception as error:  # noqa: BLE001 - out of shared memory, out of registers, refused by the compiler
        print(f"  skipped: {type(error).__name__}: {str(error)[:100]}", flush=True)
        torch.cuda.synchronize()
        return None


def contestants(work: Work, tokens: int) -> dict[str, Call]:
    """Who computes what this shape needs, and who the bare product."""
    shape = work.shape
    found: dict[str, Call] = {"cublas": lambda i: F.linear(work.x, work.weights[i])}
    if tokens <= DOT_TOKENS[-1]:
        dot = tensor_cores(tokens, shape.outs, shape.ins, 2, whole=False)
        found["dot"] = lambda i: linear.linear(work.x, work.weights[i], config=dot)
        if tokens <= FMA_TOKENS:
            fma = configured(tokens, shape.outs, shape.ins, 2)
            found["fma"] = lambda i: linear.linear(work.x, work.weights[i], config=fma)
        found["fused"] = work.fused()
        found["norm, ours"] = work.normed_before()
    found["separate"] = work.separate()
    return found


def compile_all(calls: list[Call]) -> None:
    """Runs each once, many at a time: compilers take a second, and work in parallel."""

    def run(call: Call) -> None:
        with contextlib.suppress(Exception):  # measured() says so
            call(0)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, calls))
    torch.cuda.synchronize()


def error(work: Work) -> float:
    """Of the fused op against the separate one."""
    got, expected = work.fused()(0).float(), work.separate()(0).float()
    return float((got - expected).norm() / expected.norm())


def table() -> list[dict[str, Any]]:
    """All shapes, all contestants."""
    results = []
    columns = ["cublas", "dot", "fma", "fused", "norm, ours", "separate"]
    print("microseconds (share of 3.0 TB/s)\n\n| | T | " + " | ".join(columns) + " | error |")
    print("|---" * (len(columns) + 3) + "|")
    for shape in shapes(["8B", "1.7B", "0.6B"]):
        work = Work(shape)
        for tokens in (1, 2, 6, 16, 32, 64):
            work.tokens(tokens)
            compile_all(list(contestants(work, tokens).values()))
        for tokens in TOKENS:
            work.tokens(tokens)
            cells = dict.fromkeys(columns, "")
            for name, call in contestants(work, tokens).items():
                us = measured(call, work.copies)
                if us is not None:
                    share = shape.bytes / (us * 1e-6) / BANDWIDTH
                    cells[name] = f"{us:.1f} ({share:.2f})"
                    results.append(asdict(shape) | {"tokens": tokens, "who": name, "us": us, "share": share})
            wrong = f"{error(work):.4f}" if tokens <= DOT_TOKENS[-1] else ""
            print(f"| {shape.name} | {tokens} | {' | '.join(cells.values())} | {wrong} |", flush=True)
        del work
    return results


def candidates(shape: Shape, tokens: int) -> Iterator[Config]:
    """Configurations that may suit: enough in flight, not too much for a multiprocessor."""
    halves = 2 if shape.op == "norm_gated" else 1
    if tokens <= FMA_TOKENS:
        for n, warps in itertools.product((1, 2, 4, 8), (1, 2, 4, 8)):
            if 32 <= halves * n * shape.ins // (32 * warps) <= 256:
                yield Config(n, 1 << (shape.ins.bit_length() - 1), warps, fma=True)
    block_t = next(size for size in DOT_TOKENS if tokens <= size)
    few = block_t <= 16
    sizes = (
        itertools.product((16, 32), (128, 256, 512), (1, 2, 4))
        if few
        else itertools.product((16, 32, 64, 128), (64, 128, 256), (4, 8))
    )
    for (n, k, warps), stages in itertools.product(sizes, (3, 5)):
        shared = stages * 2 * k * (n * halves + block_t)
        loads = halves * n * k // (32 * warps)  # values of a thread and step
        if not 32 <= loads <= 256 or not 24 << 10 <= shared <= SHARED or (stages == 5 and k == 512):
            continue
        for split in (1, 2, 4) if shape.op == "linear_add" else (1,):
            programs = split * shape.outs // halves / n
            enough = programs >= 100 and (split == 1 or programs <= 600) and shape.ins % (k * split) == 0
            if enough and shape.ins // split >= k * 2:
                yield Config(n, k, warps, stages, split)


def sweep(seconds: float) -> list[dict[str, Any]]:
    """Prints the best three of each shape and number of tokens."""
    results: list[dict[str, Any]] = []
    deadline = time.monotonic() + seconds
    for tokens in (6, 1, 32, 64):
        for shape in shapes(["8B", "1.7B"]):
            if time.monotonic() > deadline:
                print(f"{shape.name}, T {tokens}: no time left", flush=True)
                continue
            work = Work(shape)
            work.tokens(tokens)
            tried = list(candidates(shape, tokens))
            op = work.fused if tokens <= FOLDED else work.bare
            compile_all([op(config) for config in tried])
            found = []
            for config in tried:
                us = measured(op(config), work.copies)
                if us is not None:
                    found.append((us, config))
                    results.append(asdict(shape) | {"tokens": tokens, "config": asdict(config), "us": us})
            found.sort(key=lambda pair: pair[0])
            best = [
                f"{us:.1f} us ({shape.bytes / us / 1e-6 / BANDWIDTH:.2f}) n{c.block_n} k{c.block_k} w{c.warps} "
                + ("fma" if c.fma else f"s{c.stages} split{c.split}")
                for us, c in found[:3] + [pair for pair in found[3:] if not pair[1].fma][: tokens <= FMA_TOKENS]
            ]
            print(f"{shape.name}, T {tokens}, of {len(tried)}: " + "; ".join(best), flush=True)
            del work
    return results


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--seconds", type=float, default=180, help="after which a sweep starts nothing new")
    args = parser.parse_args()
    began = time.monotonic()
    results = sweep(args.seconds) if args.sweep else table()
    print(f"\n{torch.cuda.get_device_name()}, {time.monotonic() - began:.0f} s")
    if os.environ.get("OUT"):
        name = "linear.json" if args.sweep else "linear_table.json"
        (Path(os.environ["OUT"]) / name).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
