"""Greedy decoding of the target, and how much of its trajectory the drafter foresees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM


@dataclass(frozen=True)
class Trajectory:
    """One prompt's tokens and the tokens that greedy decoding adds, up to and with <|im_end|> if it came."""

    prompt_ids: list[int]
    output_ids: list[int]


def chat_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The prompt as one user turn, ready for the answer."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


@torch.inference_mode()
def greedy(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    batch: int = 64,
    max_new_tokens: int = 160,
) -> list[Trajectory]:
    """Decode every prompt with transformers' own generate, left-padded, near lengths together; results in order."""
    encoded = [chat_ids(tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda row: len(encoded[row]))
    found: dict[int, Trajectory] = {}
    for start in range(0, len(order), batch):
        members = order[start : start + batch]
        inputs = tokenizer.pad(
            {"input_ids": [encoded[row] for row in members]}, padding_side="left", return_tensors="pt"
        )
        inputs = inputs.to(model.device)
        outputs = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
        width = inputs["input_ids"].shape[1]
        for row, tokens in zip(members, outputs[:, width:].tolist(), strict=True):
            end = tokens.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in tokens else len(tokens)
            found[row] = Trajectory(encoded[row], tokens[:end])
    return [found[row] for row in range(len(prompts))]


@torch.inference_mode()
def foreseen(drafter: Qwen3ForCausalLM, trajectories: Sequence[Trajectory], batch: int = 64) -> list[list[bool]]:
    """For every output token, whether the drafter's greedy choice after the tokens before it is the same token."""
    result = []
    for start in range(0, len(trajectories), batch):
        members = trajectories[start : start + batch]
        rows = [torch.tensor(member.prompt_ids + member.output_ids) for member in members]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(drafter.device)  # [rows, length], right-padded
        choices = drafter(input_ids=ids).logits.argmax(dim=-1).tolist()
        for member, chosen in zip(members, choices, strict=True):
            first = len(member.prompt_ids) - 1
            result.append([chosen[first + at] == token for at, token in enumerate(member.output_ids)])
    return result


def speculate(matches: Sequence[bool], k: int) -> tuple[int, int, int]:
    """Replay speculative decoding along one trajectory: (rounds, drafted, accepted).

    While drafts are accepted, the drafter stands on the target's own trajectory, so `matches` decides every round:
    draft k tokens (fewer where the trajectory ends), accept up to the first miss, and one token more from the target.
    """
    at = rounds = drafted = accepted = 0
    while at < len(matches):
        window = matches[at : at + k]
        good = next((number for number, hit in enumerate(window) if not hit), len(window))
        rounds, drafted, accepted = rounds + 1, drafted + len(window), accepted + good
        at += good + 1
    return rounds, drafted, accepted
