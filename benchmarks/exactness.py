"""Exactness on a real model: greedy output against transformers' generate, row by row, for every batch size and k.

    python -m benchmarks.exactness [--rows 12] [--tokens 24] [--batch 8] [--drafter noisy-twin] [--drafter ngram]

SmolLM2-135M-Instruct in float32 (after `make smollm2`) on Spec-Bench prompts of mixed lengths; prints the share of equal rows. The
embedded pair has the same grid as a test, tests/engine/test_embedded_exact.py.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as benchmarks.cpu

import torch
import transformers

from benchmarks.cpu import SMOLLM2, chat_prompts, load
from benchmarks.peers.contestants import Workload, engine, transformers_generate
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter

BATCHES = (1, 8, 32)
KS = range(9)
LONGEST = 400  # prompt tokens: enough to mix lengths without waiting for prefill


def main() -> None:
    """Prints one table a drafter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--batch", type=int, action="append", help="default: 1, 8 and 32")
    parser.add_argument("--drafter", action="append", choices=["noisy-twin", "first-layers", "ngram"])
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    model = load(SMOLLM2 / "target")
    every = chat_prompts(SMOLLM2 / "target", "job/prompts/spec_bench.jsonl", 48)
    prompts = [row for row in every if len(row) <= LONGEST][: arguments.rows]
    lengths = sorted(map(len, prompts))
    print(f"{len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens, {arguments.tokens} new tokens, float32")

    def work(batch: int) -> Workload:
        return Workload(prompts, arguments.tokens, frozenset(), batch, LONGEST + arguments.tokens)

    expected = transformers_generate(model)(work(1)).tokens
    target = CausalLM(model)
    for name in arguments.drafter or ["noisy-twin"]:
        drafter: Drafter = NGramDrafter() if name == "ngram" else ModelDrafter(CausalLM(load(SMOLLM2 / name)))
        print(f"\n{name}: rows equal to the target alone, of {len(prompts)}\n")
        print("| batch | " + " | ".join(f"k = {k}" for k in KS) + " |")
        print("|---" * (1 + len(KS)) + "|")
        for batch in arguments.batch or BATCHES:
            cells = []
            for k in KS:
                tokens = engine(target, drafter, k)(work(batch)).tokens
                cells.append(str(sum(a == b for a, b in zip(tokens, expected, strict=True))))
            print(f"| {batch} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
