"""How often drafts stand if the draft model sees a row's first and last tokens alone: acceptance over drafter.window, on a CPU.

    python -m benchmarks.window_acceptance [--models models/smollm2] [--spec-bench ../shared/data/spec_bench] [--rows 8] [--joined 3]

Models are a folder `target`, asked as a drafter too, and others of drafters. The target goes on greedily from prompts of Spec-Bench; as
text does not change, what a drafter says of each of its tokens takes one forward over what the window shows. So each line is what rounds
of one row would give, without the time that they take.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from specbatch.engine.graphs.drafters.windowed import SINKS, room

WINDOWS = (64, 128, 256, 512, 1024, 2048)
K = 4


def prompts(folder: Path, tokenizer: Any, count: int, joined: int) -> Iterator[list[int]]:
    """Questions over documents, through the chat template: each behind `joined` - 1 other questions' documents."""
    with (folder / "question.jsonl").open() as lines:
        questions = [json.loads(line) for line in lines]
    texts = [question["turns"][0] for question in questions if question["category"] in {"rag", "summarization"}]
    texts = texts[:: len(texts) // (count * joined)]
    for first in range(0, count * joined, joined):
        message = {"role": "user", "content": "\n\n".join(texts[first : first + joined])}
        yield tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)


@torch.inference_mode()
def continuation(target: Any, prompt: Sequence[int], new: int) -> list[int]:
    """What the target says, to its end or `new` tokens."""
    ids = torch.tensor([prompt])
    out = target.generate(ids, max_new_tokens=new, do_sample=False, attention_mask=torch.ones_like(ids), pad_token_id=0)
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


@torch.inference_mode()
def agrees(drafter: Any, row: list[int], begin: int, window: int | None) -> list[bool]:
    """Of each token from the begin on, whether the drafter says it, seeing what windowed.WindowedDrafter shows of the row before."""
    found: list[bool] = []
    while begin < len(row):
        hidden, end = 0, len(row)
        if window is not None and begin > SINKS + window + window // 2:
            hidden = begin - SINKS - window
        if window is not None:
            end = min(end, hidden + room(window) + 1)  # here the window moves
        shown = row[:SINKS] + row[SINKS + hidden : end - 1] if hidden else row[: end - 1]
        logits = drafter(input_ids=torch.tensor([shown]), use_cache=False, logits_to_keep=end - begin).logits[0]
        found += (logits.argmax(-1) == torch.tensor(row[begin:end])).tolist()
        begin = end
    return found


def rounds(agreed: Sequence[bool]) -> tuple[int, int]:
    """Drafted and accepted tokens of rounds of K drafts, of which the target adds one."""
    drafted = accepted = at = 0
    while at < len(agreed):
        asked = agreed[at : at + K]
        stood = asked.index(False) if False in asked else len(asked)
        drafted, accepted, at = drafted + len(asked), accepted + stood, at + stood + 1
    return drafted, accepted


def table(models: Path, rows: Sequence[list[int]], new: int) -> Iterator[str]:
    """A line for each drafter and window."""
    drafters = sorted(folder.parent.name for folder in models.glob("*/config.json"))
    loaded = {
        name: AutoModelForCausalLM.from_pretrained(models / name, dtype=torch.float32).eval()
        for name in sorted(drafters, key="target".__ne__)
    }
    texts = [row + continuation(loaded["target"], row, new) for row in rows]
    lengths = sorted(map(len, rows))
    yield f"{len(rows)} rows, prompts of {lengths[0]} to {lengths[-1]} tokens, in the middle {lengths[len(lengths) // 2]}"
    yield "| window | " + " | ".join(loaded) + " |\n" + "|---" * (len(loaded) + 1) + "|"
    for window in (*WINDOWS, None):
        if window is not None and lengths[-1] <= SINKS + window + window // 2:
            continue  # nothing of a row is hidden
        cells = []
        for drafter in loaded.values():
            counts = [rounds(agrees(drafter, text, len(row), window)) for row, text in zip(rows, texts, strict=True)]
            drafted, accepted = map(sum, zip(*counts, strict=True))
            cells.append(f"{accepted / drafted:.3f} ({drafted})")
        yield f"| {window or 'none'} | " + " | ".join(cells) + " |"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models/smollm2"))
    parser.add_argument("--spec-bench", type=Path, default=Path("../shared/data/spec_bench"))
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--joined", type=int, default=1, help="documents in a prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens of a row")
    args = parser.parse_args()
    began, tokenizer = time.monotonic(), AutoTokenizer.from_pretrained(args.models / "target")
    for line in table(args.models, list(prompts(args.spec_bench, tokenizer, args.rows, args.joined)), args.new):
        print(line, flush=True)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
