"""How many rounds a drafter should need, from where it agrees with the target's text: no engine involved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def predicted_rounds(drafter: Any, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], k: int) -> int:
    """Rounds summed over the rows, for greedy decoding at a fixed k.

    Drafts are only ever made after the target's own tokens, so a draft stands exactly where the drafter, given the target's
    text up to there, would go on as the target did.

    Args:
        drafter: a transformers causal LM.
        prompts: token ids.
        texts: the target's greedy continuations.
        k: tokens drafted a round.
    """
    return sum(
        rounds_needed(_agreement(drafter, list(prompt), list(text)), k)
        for prompt, text in zip(prompts, texts, strict=True)
    )


@torch.inference_mode()
def _agreement(drafter: Any, prompt: list[int], text: list[int]) -> list[bool]:
    """Per token of the text: whether the drafter would have drafted it."""
    implementation = drafter.config._attn_implementation  # noqa: SLF001  # transformers has no public reader
    drafter.set_attn_implementation("sdpa")
    try:
        logits = drafter(input_ids=torch.tensor([prompt + text]), use_cache=False).logits[0]
    finally:
        drafter.set_attn_implementation(implementation)
    drafts = logits[len(prompt) - 1 : -1].argmax(-1).tolist()
    return [draft == token for draft, token in zip(drafts, text, strict=True)]


def rounds_needed(agrees: Sequence[bool], k: int) -> int:
    """Rounds for one row.

    Args:
        agrees: per token of the text, whether the drafter would have drafted it.
        k: tokens drafted a round.
    """
    rounds, done = 0, 0
    while done < len(agrees):
        ahead = agrees[done : done + k]
        accepted = next((j for j, stands in enumerate(ahead) if not stands), len(ahead))
        done += accepted + 1
        rounds += 1
    return rounds
