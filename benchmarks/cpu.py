"""CPU benchmark: the embedded pair and SmolLM2, beside transformers' generate, in one run.

    python -m benchmarks.cpu [--pair embedded] [--pair smollm2] [--repeats 5] [--threads N]

Every contestant decodes the same prompts greedily, in turns, so that what slows the machine slows all of them; a line
shows the best of its repeats (a busy machine only ever slows) and `match`: the share of rows that equal those of the target alone. SmolLM2
needs `make smollm2` first.
"""

from __future__ import annotations

import argparse
import copy
import datetime as dt
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads starve each other on busy cores

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.peers.contestants import Outcome, Workload, engine, transformers_generate
from benchmarks.predictions.predicted_rounds import predicted_rounds
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter

SMOLLM2 = Path("models/smollm2")
Contestants = dict[str, Callable[[Workload], Outcome]]


def load(folder: Path) -> Any:
    """A model in float32 on the CPU."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def chat_prompts(folder: Path, file: str, count: int) -> list[list[int]]:
    """The first prompts of a JSONL file, through the model's chat template."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with Path(file).open() as lines:
        rows = [json.loads(line)["prompt"] for _, line in zip(range(count), lines, strict=False)]
    return [
        tokenizer.apply_chat_template([{"role": "user", "content": row}], add_generation_prompt=True, return_dict=False)
        for row in rows
    ]


def compare(title: str, work: Workload, contestants: Contestants, repeats: int) -> dict[str, Outcome]:
    """Runs all in turns and prints their lines; the first is the target alone in this engine."""
    runs: dict[str, list[Outcome]] = {name: [] for name in contestants}
    for repeat in range(repeats):  # there and back again: a machine that tires must not favour who comes first
        for name, run in list(contestants.items())[:: 1 if repeat % 2 == 0 else -1]:
            runs[name].append(run(work))
    base = next(iter(runs))
    reference = runs[base][0].tokens
    base_speed = max(o.tokens_per_second for o in runs[base])
    print(
        f"\n### {title}: {len(work.prompts)} rows, batch {work.batch}, up to {work.new_tokens} new tokens, "
        f"threads: {torch.get_num_threads()}\n"
    )
    print("| | tokens/s | x target alone | acceptance | tokens a target forward | match |")
    print("|---|---|---|---|---|---|")
    for name, outcomes in runs.items():
        speed = max(o.tokens_per_second for o in outcomes)
        match = sum(a == b for a, b in zip(outcomes[0].tokens, reference, strict=True)) / len(reference)
        stats = outcomes[-1].stats
        speculation = f"{stats.acceptance_rate:.2f} | {stats.mean_acceptance_length:.2f}" if stats else "- | -"
        print(f"| {name} | {speed:.1f} | {speed / base_speed:.2f} | {speculation} | {match:.3f} |", flush=True)
    return {name: outcomes[-1] for name, outcomes in runs.items()}


def embedded(repeats: int) -> None:
    """The pair of the quickstart, rows ending at their end-of-sequence token."""
    folder = Path("specbatch/embedded")
    plain = load(folder / "target")
    target, drafter = CausalLM(copy.deepcopy(plain)), CausalLM(load(folder / "drafter"))
    for batch, rows in ((1, 24), (8, 96)):
        prompts = chat_prompts(folder / "target", "job/prompts/quickstart.jsonl", rows)
        work = Workload(prompts, 160, target.eos_token_ids, batch, 512)
        contestants: Contestants = {
            "target alone": engine(target, None, 0),
            "k = auto": engine(target, ModelDrafter(drafter), None),
            "k = 4": engine(target, ModelDrafter(drafter), 4),
            "transformers generate": transformers_generate(plain),
        }
        if batch == 1:
            contestants["transformers assisted"] = transformers_generate(plain, assistant_model=drafter_copy(folder))
        compare("embedded pair", work, contestants, repeats)


def drafter_copy(folder: Path) -> Any:
    """The drafter as transformers' own assistant."""
    return load(folder / "drafter")


def smollm2(repeats: int) -> None:
    """SmolLM2-135M-Instruct, every row taking all its tokens, so that no batch idles."""
    plain = load(SMOLLM2 / "target")
    target = CausalLM(copy.deepcopy(plain))
    prompts = [row for row in chat_prompts(SMOLLM2 / "target", "job/prompts/spec_bench.jsonl", 48) if len(row) < 256]
    work = Workload(prompts[:8], 96, frozenset(), 8, 512)
    twin = ModelDrafter(CausalLM(load(SMOLLM2 / "noisy-twin")))
    outcomes = compare(
        "SmolLM2-135M-Instruct",
        work,
        {
            "target alone": engine(target, None, 0),
            "n-gram, k = auto": engine(target, NGramDrafter(), None),
            "noisy twin, k = auto": engine(target, twin, None),
            "transformers generate": transformers_generate(plain),
        },
        repeats,
    )
    k = 4
    twin_run = engine(target, twin, k)(work)
    assert twin_run.stats is not None, "the engine counts"
    reference = outcomes["target alone"].tokens
    expected = predicted_rounds(twin.model.model, work.prompts, reference, k)
    tokens = sum(map(len, reference))
    print(
        f"\nnoisy twin, k = {k}: {twin_run.stats.row_rounds / tokens:.4f} target forwards a token and row, "
        f"{expected / tokens:.4f} predicted from where it agrees with the target's text; "
        f"match {sum(a == b for a, b in zip(twin_run.tokens, reference, strict=True)) / len(reference):.3f}"
    )


def main() -> None:
    """Prints what machine this is and the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", action="append", choices=["embedded", "smollm2"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="default: as `specbatch run` chooses, one for the embedded pair")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    print(
        f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, float32"
    )
    default = ["embedded", *(["smollm2"] if (SMOLLM2 / "target").exists() else [])]
    for pair in arguments.pair or default:
        torch.set_num_threads(arguments.threads or (1 if pair == "embedded" else len(os.sched_getaffinity(0))))
        {"embedded": embedded, "smollm2": smollm2}[pair](arguments.repeats)


if __name__ == "__main__":
    main()
