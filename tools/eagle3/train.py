"""Train an EAGLE-3 head for a target, in minutes, and write it in the public layout (LlamaForCausalLMEagle3).

    python -m tools.eagle3.train --target embedded:target --prompts tasks:20000 --output /tmp/head --minutes 10
    python -m tools.eagle3.train --target models/smollm2/target --prompts own:60000 docs:6000 --output models/smollm2/eagle3 --draft-vocab 24576

The target answers the prompts itself; one prompt in twenty is kept back, and the acceptance length on these is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer

from specbatch.eagle3 import Eagle3Config
from specbatch.engine.general.eagle3_head import Eagle3Head
from specbatch.engine.general.model import CausalLM
from specbatch.engine.loading.eagle3 import load_eagle3
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.memory import release
from specbatch.plan.shapes.model_dir import resolve_model_dir
from tools.eagle3.loss import training_time_test
from tools.eagle3.prompts import read_prompts
from tools.eagle3.rows import Answers, Row, acceptance_length, read_rows, task_rows, write_rows

_KEPT_BACK = 20  # one prompt in so many
_MEASURED_K = 4
_WARM_UP = 0.05  # of the steps
_REPORT_SECONDS = 20


def answered(target: CausalLM, tokenizer: Any, arguments: argparse.Namespace) -> list[Row]:
    """The rows to train on: from a file that is there, of the embedded pair's tasks, or the target's answers."""
    kept: Path | None = arguments.answers
    if kept is not None and kept.exists():
        return read_rows(kept)
    kind, _, count = arguments.prompts[0].partition(":")
    if kind == "tasks":
        rows = task_rows(int(count), tokenizer)
    else:
        answers = Answers(target, arguments.max_length, arguments.rows, arguments.answer_minutes)
        prompts = read_prompts(arguments.prompts, tokenizer, answers.own)
        rows = answers.to(prompts, arguments.new_tokens, arguments.temperatures)
        rows = list({tuple(row.tokens): row for row in rows}.values())  # a prompt may have been answered alike again
    if kept is not None:
        write_rows(rows, kept)
    return rows


def head_config(target: CausalLM, draft_vocab: int, intermediate: int | None) -> dict[str, Any]:
    """The config.json of a head as wide as its target."""
    of = target.config
    rope = dict(getattr(of, "rope_parameters", None) or {"rope_theta": 10000.0})
    plain = rope.get("rope_type", "default") == "default"
    return {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "hidden_size": of.hidden_size,
        "intermediate_size": intermediate or of.intermediate_size,
        "num_hidden_layers": 1,
        "num_attention_heads": of.num_attention_heads,
        "num_key_value_heads": of.num_key_value_heads,
        "head_dim": getattr(of, "head_dim", None) or of.hidden_size // of.num_attention_heads,
        "vocab_size": of.vocab_size,
        "draft_vocab_size": min(draft_vocab, of.vocab_size),
        "max_position_embeddings": of.max_position_embeddings,
        "rms_norm_eps": of.rms_norm_eps,
        "rope_theta": rope.get("rope_theta", 10000.0),
        "rope_scaling": None if plain else rope,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
    }


def new_head(config: dict[str, Any], target: CausalLM, drafted: Tensor, device: torch.device) -> Eagle3Head:
    """A head to be trained: its embedding is the target's and stays, its language-model head begins as the target's."""
    head = Eagle3Head(Eagle3Config.of(config, "head")).to(device)
    model = target.model
    with torch.no_grad():
        head.embed_tokens.weight.copy_(model.get_input_embeddings().weight)
        head.lm_head.weight.copy_(model.get_output_embeddings().weight[drafted])
        head.norm.weight.copy_(model.base_model.norm.weight)
        head.layer.self_attn.o_proj.weight.mul_(0.1)
        head.layer.mlp.down_proj.weight.mul_(0.1)
    head.embed_tokens.requires_grad_(requires_grad=False)
    return head


def batches(rows: Sequence[Row], tokens: int, seed: int) -> Iterator[list[Row]]:
    """Rows of like lengths, again and again in another order, up to so many tokens a batch, padding included."""
    rng = random.Random(seed)
    while True:
        mixed = sorted(rows, key=lambda row: len(row.tokens) * (1 + 0.1 * rng.random()))
        groups: list[list[Row]] = [[]]
        for row in mixed:
            if groups[-1] and len(row.tokens) * (len(groups[-1]) + 1) > tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from groups


def train(
    target: CausalLM, head: Eagle3Head, rows: Sequence[Row], drafted: Tensor, arguments: argparse.Namespace
) -> None:
    """Trains until the steps or the minutes are over. What interrupts it leaves a head as far as it has come.

    Some channels of a target's states are hundreds of times as large as others, and no step width suits both: `fc` learns on states of which
    each channel is divided by its size in the first step, and takes these divisors in at the end.
    """
    device, layers = head.device, head.config.layers_of(target.num_layers)
    trained = [weight for weight in head.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    known = torch.zeros(target.vocab_size, dtype=torch.bool, device=device).index_fill_(0, drafted, True)
    began = said = time.perf_counter()
    sizes = torch.ones((), device=device)
    try:
        for step, group in enumerate(batches(rows, arguments.tokens_per_step, arguments.seed)):
            done = max(step / arguments.steps, (time.perf_counter() - began) / (60 * arguments.minutes))
            if done >= 1:
                break
            optimizer.param_groups[0]["lr"] = arguments.learning_rate * min(1.0, done / _WARM_UP, _cosine(done))
            tokens, own = _padded(group, device)
            with torch.no_grad():
                out = target.model(input_ids=tokens, output_hidden_states=True, use_cache=False)
                hidden = torch.cat([out.hidden_states[layer] for layer in layers], -1).to(head.dtype)
                logits = out.logits[..., drafted].to(head.dtype)
                sizes = sizes if step else hidden.abs().mean((0, 1)).clamp(min=1e-6)
                hidden = hidden / sizes
            with torch.autocast(device.type, torch.bfloat16, enabled=target.model.dtype == torch.bfloat16):
                loss, right = training_time_test(head, hidden, tokens, logits, own & known[tokens], arguments.depth)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            if time.perf_counter() - said > _REPORT_SECONDS:
                said = time.perf_counter()
                shares = " ".join(f"{share.item():.3f}" for share in right)
                print(f"{done:.0%} step {step} loss {loss.item():.3f} right by draft {shares}", flush=True)
    finally:
        with torch.no_grad():
            head.fc.weight.div_(sizes)


def save(head: Eagle3Head, config: dict[str, Any], drafted: Tensor, folder: Path) -> None:
    """Writes config.json and model.safetensors in bfloat16; the embedding is the target's and is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key.replace("layer.", "midlayer.", 1) if key.startswith("layer.") else key: weight.detach().to(
            "cpu", torch.bfloat16
        )
        for key, weight in head.named_parameters()
        if not key.startswith("embed_tokens.")
    }
    tensors["d2t"] = drafted.cpu() - torch.arange(len(drafted))
    tensors["t2d"] = torch.zeros(head.config.vocab_size, dtype=torch.bool).index_fill_(0, drafted.cpu(), True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _padded(group: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids, padded on the right, and whether each is the target's own.  # int64, bool [n, T]"""
    length = max(len(row.tokens) for row in group)
    tokens = torch.zeros(len(group), length, dtype=torch.int64)
    own = torch.zeros(len(group), length, dtype=torch.bool)
    for place, row in enumerate(group):
        tokens[place, : len(row.tokens)] = torch.tensor(row.tokens)
        own[place, row.answer_at : len(row.tokens)] = True
    return tokens.to(device), own.to(device)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True, help="as spec.target.model")
    parser.add_argument(
        "--prompts",
        required=True,
        nargs="+",
        help="JSON lines files (FILE:N: each prompt N times), own:N, docs:N (see prompts.read_prompts), or tasks:N of the embedded pair",
    )
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--draft-vocab", type=int, default=32_000, help="the tokens most often seen in the answers")
    parser.add_argument("--intermediate", type=int, help="width of the head's MLP; the target's by default")
    parser.add_argument("--new-tokens", type=int, default=256, help="of an answer, at the most")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 0.7], help="of the answers, in turn")
    parser.add_argument("--max-length", type=int, default=2048, help="of prompt and answer")
    parser.add_argument("--rows", type=int, default=512, help="that are answered at once")
    parser.add_argument("--answer-minutes", type=float, default=math.inf, help="answers that end later are left out")
    parser.add_argument("--answers", type=Path, help="keeps the answers in this file, or takes them from there")
    parser.add_argument("--depth", type=int, default=5, help="drafts of the training-time test")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--tokens-per-step", type=int, default=8_192)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the target")
    return parser.parse_args()


def main() -> None:
    """Answers prompts, trains, writes, measures."""
    arguments = _arguments()
    torch.manual_seed(arguments.seed)
    folder = resolve_model_dir(arguments.target)
    assert folder is not None, "download the target first: specbatch fetch"
    target = load_causal_lm(
        str(folder), device_map={"": arguments.device}, dtype=arguments.dtype, name=arguments.target
    )
    began = time.perf_counter()
    rows = answered(target, AutoTokenizer.from_pretrained(folder), arguments)
    release(target.input_device)  # the KV of the answers
    assert len(rows) > 1, "too few answers ended in time"
    seconds = time.perf_counter() - began
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    kept_back = set(prompts[::_KEPT_BACK])
    rows = [row for row in rows if row.prompt not in kept_back]
    seen = Counter(token for row in rows for token in row.tokens[row.answer_at :])
    print(
        f"{len(rows)} answers of {sum(seen.values())} tokens, {len(seen)} different ones, in {seconds:.0f} s",
        flush=True,
    )
    config = head_config(target, arguments.draft_vocab, arguments.intermediate)
    often = [*(token for token, _ in seen.most_common()), *(set(range(target.vocab_size)) - set(seen))]
    drafted = torch.tensor(sorted(often[: config["draft_vocab_size"]]), device=arguments.device)
    head = new_head(config, target, drafted, torch.device(arguments.device))
    target.model.set_attn_implementation("sdpa")  # not over slots
    try:
        train(target, head, rows, drafted, arguments)
    finally:
        save(head, config, drafted, arguments.output)
    target = CausalLM(target.model, arguments.target)
    files = [arguments.output / "model.safetensors"]
    drafter = load_eagle3(arguments.output, files, target, device=arguments.device, name=str(arguments.output))
    held_out = [prompt for prompt in prompts if prompt in kept_back][:64]
    length = acceptance_length(target, drafter, held_out, _MEASURED_K, arguments.new_tokens)
    print(f"acceptance length at k = {_MEASURED_K} on {len(held_out)} prompts kept back: {length:.2f}", flush=True)


if __name__ == "__main__":
    main()
