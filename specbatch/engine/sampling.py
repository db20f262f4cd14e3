"""From logits to the distribution that is actually sampled from, and to a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specbatch.engine.request import Request
from specbatch.engine.streams import Purpose, exponentials, position_keys


@dataclass(frozen=True, slots=True)
class RowSampling:
    """The sampling parameters of the rows in the batch, as tensors, plus what the host knows of them.

    temperature, top_p: float32 [batch]; top_k (0: all): int64 [batch]; keys: int64 [batch]
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    keys: Tensor
    all_greedy: bool
    max_top_k: int  # 0: some sampled row keeps the whole vocabulary
    any_top_p: bool

    @staticmethod
    def of(requests: Sequence[Request], device: torch.device) -> RowSampling:
        """Stacks the requests' parameters; a row's place here is its place in the batch."""
        params = [request.sampling for request in requests]
        sampled = [param for param in params if not param.greedy]
        top_ks = [param.top_k for param in sampled]
        return RowSampling(
            temperature=torch.tensor([param.temperature for param in params], dtype=torch.float32, device=device),
            top_k=torch.tensor([param.top_k for param in params], dtype=torch.int64, device=device),
            top_p=torch.tensor([param.top_p for param in params], dtype=torch.float32, device=device),
            keys=torch.tensor([request.random_key for request in requests], dtype=torch.int64, device=device),
            all_greedy=not sampled,
            max_top_k=max(top_ks) if top_ks and min(top_ks) > 0 else 0,
            any_top_p=any(param.top_p < 1.0 for param in sampled),
        )


def token_probs(logits: Tensor, sampling: RowSampling) -> Tensor:
    """The distribution each row samples from: temperature, then top-k, then top-p; one-hot where greedy.

    Args:
        logits: [batch, n, vocab], any float dtype; computed in float32 (a bf16 softmax would sample another distribution)
        sampling: the rows' parameters.

    Returns:
        float32 [batch, n, vocab], each summing to 1
    """
    logits = logits.float()
    greedy = sampling.temperature == 0
    best = logits.argmax(-1, keepdim=True)
    scaled = logits / torch.where(greedy, 1.0, sampling.temperature)[:, None, None]
    probs = _filtered_softmax(scaled, sampling)
    one_hot = torch.zeros_like(probs).scatter_(-1, best, 1.0)
    return torch.where(greedy[:, None, None], one_hot, probs)


def _filtered_softmax(scaled: Tensor, sampling: RowSampling) -> Tensor:
    """Softmax over what top-k and top-p leave.  # [batch, n, vocab]"""
    vocab = scaled.shape[-1]
    top_k = torch.where(sampling.top_k > 0, sampling.top_k, vocab)[:, None, None]
    if 0 < sampling.max_top_k < vocab:
        values, ids = scaled.topk(sampling.max_top_k, dim=-1)
    elif sampling.any_top_p or (sampling.top_k > 0).any():
        values, ids = scaled.sort(dim=-1, descending=True)
    else:
        return scaled.softmax(-1)
    rank = torch.arange(values.shape[-1], device=values.device)
    values = values.masked_fill(rank >= top_k, -torch.inf)
    if sampling.any_top_p:
        probs = values.softmax(-1)
        # The smallest set of the likeliest tokens whose mass reaches top_p: a token stays while the mass before it is short.
        mass_before = probs.cumsum(-1) - probs
        values = values.masked_fill((mass_before >= sampling.top_p[:, None, None]) & (rank > 0), -torch.inf)
    return torch.zeros_like(scaled).scatter_(-1, ids, values.softmax(-1))


def race(probs: Tensor, keys: Tensor) -> Tensor:
    """Draws one token per distribution by an exponential race.

    Args:
        probs: nonnegative weights, need not sum to 1  # [batch, n, vocab]
        keys: from position_keys  # int64 [batch, n]

    Returns:
        int64 [batch, n]
    """
    return (probs / exponentials(keys, probs.shape[-1])).argmax(-1)


def choose_tokens(
    logits: Tensor, sampling: RowSampling, positions: Tensor, purpose: Purpose = Purpose.TOKEN
) -> tuple[Tensor, Tensor | None]:
    """Each row's token at each position, and the distribution it came from (None when every row is greedy).

    Args:
        logits: [batch, n, vocab]
        sampling: the rows' parameters.
        positions: index of each token in its row's completion  # int64 [batch, n]
        purpose: TOKEN for the target; the drafter passes TOKEN under the coupled rule, DRAFT under the rejection rule.

    Returns:
        tokens int64 [batch, n]; probs float32 [batch, n, vocab] or None
    """
    if sampling.all_greedy:
        return logits.argmax(-1), None
    probs = token_probs(logits, sampling)
    return race(probs, position_keys(sampling.keys, positions, purpose)), probs
