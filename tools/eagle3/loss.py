"""Training-time test: a head is trained on its own output as it will draft from it, so many drafts deep (arXiv 2503.01840, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from specbatch.engine.general.eagle3_head import Eagle3Head

_DECAY = 0.8  # of the loss, a draft deeper


def training_time_test(
    head: Eagle3Head, hidden: Tensor, tokens: Tensor, logits: Tensor, wanted: Tensor, depth: int
) -> tuple[Tensor, list[Tensor]]:
    """The loss of `depth` drafts from every position, and how often each was the target's token.

    Args:
        head: in training.
        hidden: the target's states, beside each other  # [n, T, joined * hidden]
        tokens: int64 [n, T]
        logits: the target's, of the head's tokens alone  # [n, T, draft_vocab]
        wanted: whether the token is the target's own, and one that the head knows  # bool [n, T]
        depth: drafts.

    Returns:
        the loss; of each draft the share that is right  # []
    """
    loss, right = hidden.new_zeros(()), list[Tensor]()
    for draft, states in enumerate(unrolled(head, hidden, tokens, depth)):
        rows, places = _shifted(wanted, draft + 2).nonzero(as_tuple=True)  # prompts cost no logits
        out, target = head.logits(states[rows, places]), logits[rows, places + draft + 1]
        each = out.logsumexp(-1) - (target.softmax(-1) * out).sum(-1)  # their cross entropy
        count = max(1, len(rows))
        loss = loss + _DECAY**draft * each.sum() / count
        right.append((out.argmax(-1) == target.argmax(-1)).sum() / count)
    return loss, right


def unrolled(head: Eagle3Head, hidden: Tensor, tokens: Tensor, depth: int) -> Iterator[Tensor]:
    """What the head leaves of one draft after the other, from every position at once, the tokens before it being the row's own.

    Index j of draft s stands at position j + s: it takes the token at j + s + 1 beside what draft s - 1 left there (the target's states
    for s = 0), sees the target's states up to j and its own drafts before it, and predicts the token at j + s + 2.

    Yields:
        states, see Eagle3Head.finish  # [n, T, hidden]
    """
    n, length = tokens.shape
    states = head.join(hidden)
    causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    positions = torch.arange(length, device=tokens.device).expand(n, length)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for draft in range(depth):
        query, key, value, residual = head.qkv(_shifted(tokens, draft + 1), states, positions + draft)
        groups = query.shape[1] // key.shape[1]
        keys.append(key.repeat_interleave(groups, 1))
        values.append(value.repeat_interleave(groups, 1))
        attended = _attend(query, keys, values, causal, head.config.head_dim**-0.5)
        states = head.finish(attended.transpose(1, 2).flatten(2), residual)
        yield states


def _attend(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], causal: Tensor, scale: float) -> Tensor:
    """Over the first keys up to the own index, and over those of later drafts at it.  # [n, heads, T, head_dim]"""
    length = query.shape[2]
    scores = [(query @ keys[0].transpose(2, 3)).masked_fill(~causal, -torch.inf)]
    scores += [(query * key).sum(-1, keepdim=True) for key in keys[1:]]
    weights = (torch.cat(scores, -1) * scale).softmax(-1)
    out = weights[..., :length] @ values[0]
    for place, value in enumerate(values[1:]):
        out = out + weights[..., length + place : length + place + 1] * value
    return out


def _shifted(x: Tensor, by: int) -> Tensor:
    """What stands so much further on; zeros beyond the end.  # [n, T, ...]"""
    return torch.cat([x[:, by:], torch.zeros_like(x[:, :by])], 1)
