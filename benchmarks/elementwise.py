"""The kernels between the linears, and those that choose tokens: microseconds a call on a GPU.

    python -m benchmarks.elementwise [--only WORD]

Times are of replayed CUDA graphs, in which a call follows the other. Each has the same input again, so what fits in the L2
cache (50 MB on an H100) comes from there, as it does in a model, where the kernel before has just written it. GB/s counts
what has to be read and written at least: inputs and outputs once. Beside a call stands PyTorch's own way, and its time.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from specbatch.engine.counter_rng import Purpose, position_keys
from specbatch.engine.graphs.kernels.activations import gate
from specbatch.engine.graphs.kernels.elementwise import rms_norm, rope_write
from specbatch.engine.graphs.kernels.filtered_sampling import sample_filtered
from specbatch.engine.graphs.kernels.sampling import sample
from specbatch.engine.graphs.kernels.top_candidates import top_candidates
from specbatch.engine.graphs.kv.paging import PAGE, Pages
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sampling import RowSampling, choose_tokens

TOKENS = (1, 6, 32, 128, 512, 4096)
SHAPES = {"8B": (4096, 12288, 32, 8), "1.7B": (2048, 6144, 16, 8)}  # hidden, intermediate, heads, kv_heads
HEAD_DIM = 128
VOCAB = 151936
DRAWN = (1, 6, 32, 128, 512)
TOP_K = 20
CANDIDATES = (1, 6, 128, 192)
FILTERED = (1, 6, 32, 128, 384)
TOP_P = (0.95, 0.5, 0.1)


@dataclass
class Line:
    """One row of the table.

    call: ours.
    moved: bytes that it has to read and write.
    peers: PyTorch's ways, by their names.
    """

    name: str
    count: int
    call: Callable[[], Any]
    moved: int
    peers: dict[str, Callable[[], Any]]


def microseconds(call: Callable[[], Any]) -> float:
    """Of a call, as a replayed graph: the best of a few."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()  # compiles
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    calls = max(2, min(40, int(20 / max(begin.elapsed_time(end), 1e-3))))  # slow ones are timed as well by two
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    graph.replay()
    best = math.inf
    for _ in range(5):
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) * 1e3 / calls)
    return best


def random(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Normal numbers on the GPU."""
    return torch.randn(shape, device="cuda", dtype=dtype)


def between_linears() -> Iterator[Line]:
    """Of a layer: the norm, the gate, and rotation with the write to the pages, each row at another position."""
    for model, (hidden, intermediate, heads, kv_heads) in SHAPES.items():
        weight, norm = random(hidden), random(HEAD_DIM)
        rope = random(4096, HEAD_DIM, dtype=torch.float32)
        shape = (1 + max(TOKENS) // PAGE, kv_heads, PAGE, HEAD_DIM)
        table = torch.randperm(max(TOKENS) // PAGE, device="cuda", dtype=torch.int32)[None] + 1
        pages = Pages([random(*shape)], [random(*shape)], table)
        for count in TOKENS:
            x, gate_up = random(count, hidden), random(count, 2 * intermediate)
            qkv = random(count, (heads + 2 * kv_heads) * HEAD_DIM)
            slots, positions = torch.zeros(count, dtype=torch.int64, device="cuda"), torch.arange(count, device="cuda")
            yield Line(
                f"rms_norm {model}",
                count,
                lambda x=x, weight=weight: rms_norm(x, weight, 1e-6),
                2 * x.nbytes + weight.nbytes,
                {"torch rms_norm": lambda x=x, weight=weight: torch.rms_norm(x, weight.shape, weight, 1e-6)},
            )
            yield Line(
                f"gate {model}",
                count,
                lambda gate_up=gate_up: gate(gate_up),
                gate_up.nbytes * 3 // 2,
                {"torch copy of as much": lambda gate_up=gate_up: gate_up[:, : gate_up.shape[1] * 3 // 4].clone()},
            )
            yield Line(
                f"rope_write {model}",
                count,
                lambda q=qkv, n=norm, r=rope, p=pages, s=slots, at=positions: rope_write(q, n, n, 1e-6, r, p, 0, s, at),
                2 * qkv.nbytes + count * HEAD_DIM * 4,
                {"torch copy of as much": lambda qkv=qkv: qkv.clone()},
            )


def choosing() -> Iterator[Line]:
    """Greedy and drawn rows, and the likeliest few."""
    for count in DRAWN:
        logits, rows = random(count, VOCAB) * 3, torch.zeros(count, 1, dtype=torch.int64, device="cuda")
        for word, heat in (("greedy", 0.0), ("drawn", 0.8)):
            requests = [Request(str(row), [1], 1, sampling=SamplingParams(heat)) for row in range(count)]
            sampling = RowSampling.of(requests, torch.device("cuda"))
            keys = position_keys(sampling.keys, rows, Purpose.TOKEN)[:, 0]
            temperature = sampling.temperature if heat else None
            peers: dict[str, Callable[[], Any]] = {"torch.argmax": lambda logits=logits: logits.argmax(-1)}
            if heat:
                peers = {
                    "choose_tokens": lambda logits=logits, sampling=sampling, rows=rows: choose_tokens(
                        logits[:, None], sampling, rows
                    )
                }
            yield Line(
                f"sample {word}", count, lambda a=logits, b=keys, c=temperature: sample(a, b, c), logits.nbytes, peers
            )
    for count in CANDIDATES:
        logits = random(count, VOCAB) * 3
        yield Line(
            f"top_candidates of {TOP_K}",
            count,
            lambda logits=logits: top_candidates(logits, TOP_K),
            logits.nbytes,
            {"torch.topk": lambda logits=logits: logits.topk(TOP_K, dim=-1)},
        )


def choosing_by_top_p() -> Iterator[Line]:
    """Rows with a top-p and no top-k; of flat logits, of which thousands are kept, and of peaked ones, of which few are."""
    for count in FILTERED:
        for word, scale in (("flat", 3.0), ("peaked", 8.0)):
            logits = random(count, VOCAB) * scale
            for top_p in TOP_P:
                requests = [
                    Request(str(row), [1], 1, sampling=SamplingParams(0.8, top_p=top_p)) for row in range(count)
                ]
                sampling = RowSampling.of(requests, torch.device("cuda"))
                rows = torch.zeros(count, 1, dtype=torch.int64, device="cuda")
                keys = position_keys(sampling.keys, rows, Purpose.TOKEN)[:, 0]
                yield Line(
                    f"sample_filtered {word}, top-p {top_p}",
                    count,
                    lambda a=logits, b=keys, c=sampling: sample_filtered(a, b, c.temperature, c.top_k, c.top_p),
                    logits.nbytes,
                    {
                        "choose_tokens": lambda logits=logits, sampling=sampling, rows=rows: choose_tokens(
                            logits[:, None], sampling, rows
                        )
                    },
                )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="lines whose name has this word")
    only = parser.parse_args().only
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.elementwise needs a CUDA GPU")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16\n")
    print("| | rows | us | GB/s | beside it | us | x |")
    print("|---|---|---|---|---|---|---|")
    for lines in (between_linears, choosing, choosing_by_top_p):
        for line in lines():
            if only not in line.name:
                continue
            ours = microseconds(line.call)
            speed = line.moved / ours / 1e3
            peers = [(name, microseconds(peer)) for name, peer in line.peers.items()]
            beside = " | ".join(f"{name} | {theirs:.1f} | {theirs / ours:.1f}" for name, theirs in peers)
            print(f"| {line.name} | {line.count} | {ours:.1f} | {speed:.0f} | {beside} |", flush=True)


if __name__ == "__main__":
    main()
