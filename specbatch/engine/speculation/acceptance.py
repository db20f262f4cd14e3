"""Which draft tokens stand, and the one token that follows them: the two lossless rules.

coupled (default): target and drafter draw with the same noise, so the target's token at a position is known whatever was
drafted, and a draft stands where it equals that token. The text is token for token what the target alone draws from the
row's stream, whatever k, drafter, batch or restart: "drafter-invariant" speculation (Daliri, Musco, Suresh,
arXiv 2408.07978). Greedy decoding is the case of zero temperature.

rejection: Leviathan et al. (arXiv 2211.17192), Chen et al. (arXiv 2302.01318): accept a draft d with probability
min(1, target_probs[d] / draft_probs[d]), else draw from the residual. Accepts the most that any rule can; the
distribution is the target's, but the text depends on where the rounds fell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from specbatch.engine.counter_rng import Purpose, position_keys, uniforms
from specbatch.engine.sampling import RowSampling, gumbel_max


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a round commits: per row the first `accepted + 1` of `tokens`; the rest is filler.

    tokens: accepted drafts, then the recovered or bonus token  # int64 [batch, k + 1]
    accepted: int64 [batch], 0..k
    """

    tokens: Tensor
    accepted: Tensor


def _leading(accept: Tensor) -> Tensor:
    """How many leading positions are True.  # bool [batch, k] -> int64 [batch]"""
    return accept.long().cumprod(-1).sum(-1)


def accept_coupled(draft_tokens: Tensor, num_drafted: Tensor, target_tokens: Tensor) -> Acceptance:
    """A draft token stands where it is the target's own token and all before it were accepted.

    Args:
        draft_tokens: int64 [batch, k]
        num_drafted: how many of them each row really drafted  # int64 [batch]
        target_tokens: the target's token at each of the k + 1 positions, from the shared noise  # int64 [batch, k + 1]
    """
    k = draft_tokens.shape[1]
    drafted = torch.arange(k, device=draft_tokens.device) < num_drafted[:, None]
    accepted = _leading((draft_tokens == target_tokens[:, :k]) & drafted)
    # Accepted drafts equal the target's tokens; the next one is the recovered or the bonus token.
    return Acceptance(target_tokens, accepted)


def accept_by_rejection(
    draft_tokens: Tensor,
    num_drafted: Tensor,
    draft_probs: Tensor,
    target_probs: Tensor,
    sampling: RowSampling,
    positions: Tensor,
) -> Acceptance:
    """Speculative sampling over the distributions actually sampled from.

    Args:
        draft_tokens: int64 [batch, k]
        num_drafted: how many of them each row really drafted  # int64 [batch]
        draft_probs: what each draft token was drawn from, after temperature, top-k, top-p  # float32 [batch, k, vocab]
        target_probs: float32 [batch, k + 1, vocab]
        sampling: for the rows' random streams.
        positions: index in its row's completion of each of the k + 1 tokens  # int64 [batch, k + 1]
    """
    batch, k = draft_tokens.shape
    drafted = torch.arange(k, device=draft_tokens.device) < num_drafted[:, None]
    accept_uniforms = uniforms(position_keys(sampling.keys, positions[:, :k], Purpose.ACCEPT))
    p_target = target_probs[:, :k].gather(-1, draft_tokens[..., None])[..., 0]
    p_draft = draft_probs.gather(-1, draft_tokens[..., None])[..., 0]
    # u < target / draft, without dividing: a token to which the target gives no mass never stands.
    accepted = _leading((accept_uniforms * p_draft < p_target) & drafted)

    # At the first position that fell: the residual max(0, target - draft). After the last draft nothing was drafted, the
    # subtrahend is 0, and the residual is the target itself: the bonus token needs no case of its own.
    rows = torch.arange(batch, device=draft_tokens.device)
    subtrahend = torch.cat([draft_probs * drafted[..., None], torch.zeros_like(target_probs[:, :1])], dim=1)
    target_row = target_probs[rows, accepted]
    residual = (target_row - subtrahend[rows, accepted]).clamp_(min=0)
    # Equal distributions can reject by rounding alone; then nothing is left over, and the target is the residual's limit.
    residual = torch.where(residual.sum(-1, keepdim=True) > 0, residual, target_row)
    keys = position_keys(sampling.keys, positions, Purpose.TOKEN)[rows, accepted]
    next_token = gumbel_max(residual[:, None], keys[:, None])

    tokens = torch.cat([draft_tokens, next_token], dim=1)
    return Acceptance(tokens.scatter(1, accepted[:, None], next_token), accepted)
