"""Make the embedded pair: data -> tokenizer -> target -> drafter distilled from the target -> bf16 safetensors.

    python -m tools.embedded_pair.train                       # the shipped pair: about six minutes on one H100
    python -m tools.embedded_pair.train --smoke --out /tmp/x  # the same path in under a minute on a CPU

Steps and seeds are fixed; the weights still differ in their last bits from one GPU model to another.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from tools.embedded_pair import corpus, shapes
from tools.embedded_pair.loop import Recipe, answer_loss, distillation_loss, logits_of, train
from tools.embedded_pair.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

PACKAGE = Path(__file__).parents[2] / "specbatch" / "embedded"
TASKS = 1_600_000
TARGET = Recipe(steps=12_000, tokens_per_step=65_536, peak_lr=2e-3, seed=1)
DRAFTER = Recipe(steps=2_000, tokens_per_step=65_536, peak_lr=4e-3, seed=2)


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write config, generation config, bf16 safetensors and the tokenizer."""
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone


def train_target(rows: Mapping[int, corpus.Rows], config: Qwen3Config, recipe: Recipe, device: str) -> Qwen3ForCausalLM:
    """The target, in fp32, from random weights."""
    torch.manual_seed(recipe.seed)
    model = Qwen3ForCausalLM(config).to(device=device, dtype=torch.float32)
    compile_layers(model)
    train(model, lambda ids, answer: answer_loss(logits_of(model, ids), ids, answer), rows, recipe, device)
    return model


def train_drafter(
    rows: Mapping[int, corpus.Rows], config: Qwen3Config, target: Qwen3ForCausalLM, recipe: Recipe, device: str
) -> Qwen3ForCausalLM:
    """The drafter, in fp32, towards the target's distribution at every token of the answers."""
    torch.manual_seed(recipe.seed)
    model = Qwen3ForCausalLM(config).to(device=device, dtype=torch.float32)
    target.requires_grad_(False)
    compile_layers(model)
    compile_layers(target)

    def loss(ids: Tensor, answer: Tensor) -> Tensor:
        with torch.no_grad():
            teacher = logits_of(target, ids)
        return distillation_loss(logits_of(model, ids), teacher, answer)

    train(model, loss, rows, recipe, device)
    return model


def compile_layers(model: Qwen3ForCausalLM) -> None:
    """Compile one layer for each row length; all layers share the result. A CPU run stays eager."""
    if next(model.parameters()).device.type == "cpu":
        return
    torch._dynamo.config.recompile_limit = 64  # noqa: SLF001 - the documented way to raise it
    for layer in model.model.layers:
        layer.compile(dynamic=False)


def main() -> None:
    """Parse arguments and run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PACKAGE, help="folder that gets target/ and drafter/")
    parser.add_argument(
        "--stage", choices=("both", "target", "drafter"), default="both", help="drafter: the target is already in OUT"
    )
    parser.add_argument("--smoke", action="store_true", help="a few small steps: the pipeline, not the models")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--target-steps", type=int, default=TARGET.steps)
    parser.add_argument("--drafter-steps", type=int, default=DRAFTER.steps)
    arguments = parser.parse_args()
    target_recipe = replace(TARGET, steps=arguments.target_steps)
    drafter_recipe = replace(DRAFTER, steps=arguments.drafter_steps)
    if arguments.smoke:
        target_recipe, drafter_recipe = (replace(r, steps=3, tokens_per_step=768, warmup=1) for r in (TARGET, DRAFTER))
        arguments.tasks = 2_000

    started = time.monotonic()
    out: Path = arguments.out
    tokenizer = train_tokenizer()
    rows = corpus.build(
        tokenizer.backend_tokenizer.to_str(), seed=1, count=arguments.tasks, processes=len(os.sched_getaffinity(0))
    )
    sizes = {n: len(part.ids) for n, part in rows.items()}
    print(f"rows by length {sizes}, {time.monotonic() - started:.0f} s", flush=True)
    if arguments.stage != "drafter":
        config = shapes.target_config(tokenizer)
        save(train_target(rows, config, target_recipe, arguments.device), tokenizer, out / "target")
        print(f"target done, {time.monotonic() - started:.0f} s", flush=True)
    if arguments.stage != "target":
        target = Qwen3ForCausalLM.from_pretrained(out / "target", dtype=torch.float32).to(arguments.device)
        config = shapes.drafter_config(tokenizer)
        save(train_drafter(rows, config, target, drafter_recipe, arguments.device), tokenizer, out / "drafter")
        print(f"drafter done, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
