"""Prefill of rows that ask for the log probabilities of their prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from specbatch.engine.general.batch import Batch
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.prefill import Seen, from_the_start
from specbatch.engine.logits.logprobs import PROMPT_TOKENS, Logprobs, PromptLogprobs
from specbatch.engine.timing import mark


def prefill_with_logprobs(
    model: CausalLM, batch: Batch, slots: Sequence[int], chunk: int, seen: Seen = lambda _: None
) -> Mapping[int, PromptLogprobs]:
    """As prefill of these slots from their start, with the language-model head over every position.

    Args:
        model: whose slots are filled.
        batch: holds the rows.
        slots: to fill.
        chunk: tokens in one forward, at the most; no more than PROMPT_TOKENS, whose logits are held at once.
        seen: told of each forward.

    Returns:
        those of each slot's prompt
    """
    found = {slot: PromptLogprobs() for slot in slots}
    ends = {slot: batch.rows[slot].length for slot in slots if batch.rows[slot].length}
    for tokens, view in from_the_start(batch, ends, min(chunk, PROMPT_TOKENS)):
        logits = model.logits(tokens, view).to(batch.device)
        seen(view)
        of_view = torch.arange(batch.slots, device=batch.device)[view.rows].tolist()
        for slot, row, positions in zip(of_view, logits, view.positions, strict=True):
            first, end = int(positions[-1]) + 1 - int((positions >= 0).sum()), int(positions[-1]) + 1
            following = batch.history[slot, first + 1 : end + 1]
            scored = Logprobs.of(row[None, positions >= 0], following[None])
            found[slot].stretches.append((Logprobs(*(part.cpu() for part in scored)), mark(batch.device)))
    return found
