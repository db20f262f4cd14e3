"""Measure the embedded pair on fresh held-out prompts, in fp32 from the bf16 weights; prints one table.

python -m tools.embedded_pair.evaluate --count 2000 --markdown /tmp/table.md
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoTokenizer, Qwen3ForCausalLM

from tools.embedded_pair.decode import foreseen, greedy, speculate
from tools.embedded_pair.shapes import bytes_per_step
from tools.embedded_pair.tasks import generate
from tools.embedded_pair.train import PACKAGE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tools.embedded_pair.decode import Trajectory
    from tools.embedded_pair.tasks import Task

EVALUATION_SEED = 20_001


def load(folder: Path, device: str = "cpu") -> Qwen3ForCausalLM:
    """A model in fp32, ready to decode."""
    return Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()


def is_right(tokenizer: PreTrainedTokenizerBase, task: Task, trajectory: Trajectory) -> bool:
    """Whether the target stopped by itself after exactly the right answer."""
    *answer, last = trajectory.output_ids
    return bool(last == tokenizer.eos_token_id and tokenizer.decode(answer) == task.answer)


def measure(root: Path, count: int, k: int, device: str, batch: int) -> tuple[list[str], list[tuple[Task, str]]]:
    """The table's lines in markdown, and the tasks that went wrong with what the target said."""
    tokenizer = AutoTokenizer.from_pretrained(root / "target")
    target, drafter = load(root / "target", device), load(root / "drafter", device)
    tasks = list(generate(EVALUATION_SEED, count, "held_out"))
    trajectories = greedy(target, tokenizer, [task.prompt for task in tasks], batch=batch)
    matches = foreseen(drafter, trajectories, batch=batch)
    # family -> rows, right, output tokens, tokens foreseen, rounds, drafted, accepted
    sums: dict[str, list[int]] = defaultdict(lambda: [0] * 7)
    wrong = []
    for task, trajectory, hits in zip(tasks, trajectories, matches, strict=True):
        right = is_right(tokenizer, task, trajectory)
        if not right:
            wrong.append((task, tokenizer.decode(trajectory.output_ids)))
        figures = (1, int(right), len(hits), sum(hits), *speculate(hits, k))
        for name in (task.family, "all"):
            sums[name] = [old + new for old, new in zip(sums[name], figures, strict=True)]
    lines = [
        "| family | prompts | right | tokens an answer | drafter right per token | acceptance_rate | mean_acceptance_length |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in [*sorted(set(sums) - {"all"}), "all"]:
        rows, correct, tokens, foretold, rounds, drafted, accepted = sums[name]
        lines.append(
            f"| {name} | {rows} | {correct / rows:.1%} | {tokens / rows:.1f} | {foretold / tokens:.3f} "
            f"| {accepted / drafted:.3f} | {1 + accepted / rounds:.2f} |"
        )
    target_bytes, drafter_bytes = bytes_per_step(target), bytes_per_step(drafter)
    lines += [
        "",
        f"k = {k}, greedy. Bytes a step in bf16: target {target_bytes:,}, drafter {drafter_bytes:,}, ratio {drafter_bytes / target_bytes:.3f}.",
    ]
    return lines, wrong


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=PACKAGE, help="folder with target/ and drafter/")
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("-k", type=int, default=4, help="num_speculative_tokens")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    parser.add_argument("--show-wrong", type=int, default=0, help="print so many of the wrong answers")
    arguments = parser.parse_args()
    lines, wrong = measure(arguments.models, arguments.count, arguments.k, arguments.device, arguments.batch)
    print("\n".join(lines))
    for task, said in wrong[: arguments.show_wrong]:
        print(f"{task.family}: {task.prompt!r}\n  right {task.answer!r}\n  said  {said!r}")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
