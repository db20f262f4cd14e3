"""From logits to the distribution that is actually sampled from, and to a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specbatch.engine.counter_rng import CACHED, Purpose, exponentials, position_keys
from specbatch.engine.host_copies import upload
from specbatch.engine.request import Request, SamplingParams

_FEW = 1024  # tokens


@dataclass(frozen=True, slots=True)
class RowSampling:
    """The sampling parameters of the rows in the batch: as the host knows them, and as tensors.

    temperature, top_p: float32 [batch]; top_k (0: all): int64 [batch]; keys: int64 [batch]
    """

    params: Sequence[SamplingParams]
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    keys: Tensor

    @staticmethod
    def of(requests: Sequence[Request], device: torch.device) -> RowSampling:
        """Stacks the requests' parameters; a row's place here is its place in the batch."""
        params = [request.sampling for request in requests]
        return RowSampling(
            params=params,
            temperature=upload([param.temperature for param in params], torch.float32, device),
            top_k=upload([param.top_k for param in params], torch.int64, device),
            top_p=upload([param.top_p for param in params], torch.float32, device),
            keys=upload([request.random_key for request in requests], torch.int64, device),
        )

    @property
    def all_greedy(self) -> bool:
        """Whether no row draws."""
        return all(param.greedy for param in self.params)

    @property
    def max_top_k(self) -> int:
        """The largest top-k; 0 where a sampled row keeps the whole vocabulary."""
        top_ks = [param.top_k for param in self.params if not param.greedy]
        return max(top_ks) if top_ks and min(top_ks) > 0 else 0

    @property
    def filters(self) -> bool:
        """Whether any sampled row keeps less than the whole vocabulary."""
        return any(param.top_k > 0 or param.top_p < 1.0 for param in self.params if not param.greedy)

    def row(self, index: int) -> RowSampling:
        """The parameters of one row alone."""
        one = slice(index, index + 1)
        return RowSampling(self.params[one], self.temperature[one], self.top_k[one], self.top_p[one], self.keys[one])


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a token is drawn from.

    probs: each position's sum to 1  # float32 [batch, n, m]
    tokens: which token each of them is for, those not named have none; None: m is the vocabulary  # int64 [batch, n, m]
    """

    probs: Tensor
    tokens: Tensor | None

    def dense(self, vocab_size: int) -> Tensor:
        """Over the whole vocabulary.  # float32 [batch, n, vocab]"""
        if self.tokens is None:
            return self.probs
        whole = self.probs.new_zeros(*self.probs.shape[:-1], vocab_size)
        return whole.scatter_(-1, self.tokens, self.probs)


def distribution(logits: Tensor, sampling: RowSampling) -> Distribution:
    """What each row samples from: temperature, then top-k, then top-p; all mass on the likeliest token where greedy.

    Args:
        logits: [batch, n, vocab], any float dtype; computed in float32 (a bf16 softmax would sample another distribution)
        sampling: the rows' parameters.
    """
    logits = logits.float()
    greedy = (sampling.temperature == 0)[:, None, None]
    scaled = logits / torch.where(greedy, 1.0, sampling.temperature[:, None, None])
    vocab_size = logits.shape[-1]
    if 0 < sampling.max_top_k < vocab_size:
        scores, tokens = scaled.topk(sampling.max_top_k, dim=-1)
    elif sampling.filters:
        scores, tokens = _likeliest_first(scaled, sampling)
    else:
        best = logits.argmax(-1, keepdim=True)
        one_hot = (
            torch.zeros_like(scaled).scatter_(-1, best, 1.0) if any(param.greedy for param in sampling.params) else 0.0
        )
        return Distribution(torch.where(greedy, one_hot, scaled.softmax(-1)), None)
    return _keep(scores, tokens, sampling, vocab_size, scaled)


def distribution_of_candidates(logits: Tensor, tokens: Tensor, sampling: RowSampling, vocab_size: int) -> Distribution:
    """As `distribution`, from the likeliest tokens alone, where every row that draws has a top-k within them.

    Args:
        logits: from the highest down  # [batch, n, m]
        tokens: whose they are  # int64 [batch, n, m]
        sampling: the rows' parameters.
        vocab_size: tokens in all.
    """
    greedy = (sampling.temperature == 0)[:, None, None]
    scores = logits.float() / torch.where(greedy, 1.0, sampling.temperature[:, None, None])
    return _keep(scores, tokens, sampling, vocab_size, None)


def _keep(
    scores: Tensor, tokens: Tensor, sampling: RowSampling, vocab_size: int, scaled: Tensor | None
) -> Distribution:
    """What top-k and top-p leave of the likeliest tokens; `scaled`: the scores of all, None where no row may keep all."""
    greedy = (sampling.temperature == 0)[:, None, None]
    rank = torch.arange(scores.shape[-1], device=scores.device)
    top_k = torch.where(greedy, 1, torch.where(sampling.top_k > 0, sampling.top_k, vocab_size)[:, None, None])
    scores = scores.masked_fill(rank >= top_k, -torch.inf)
    # top-p: the smallest set of the likeliest tokens whose mass reaches it; a token stays while the mass before it is short.
    # The mass is that of what top-k has left, so of all tokens where it has left all, also those not in `scores`.
    probs = scores.softmax(-1)
    if scaled is not None:
        probs = torch.where(top_k < vocab_size, probs, (scores - scaled.logsumexp(-1, keepdim=True)).exp())
    mass_before = probs.cumsum(-1) - probs
    beyond = (mass_before >= sampling.top_p[:, None, None]) & (rank > 0)
    return Distribution(scores.masked_fill(beyond, -torch.inf).softmax(-1), tokens)


def _likeliest_first(scaled: Tensor, sampling: RowSampling) -> tuple[Tensor, Tensor]:
    """Scores from the highest down, and their tokens: all, or on a CPU, whose sort is slow, the few that top-p can keep."""
    vocab_size = scaled.shape[-1]
    if scaled.device.type == "cpu" and vocab_size > _FEW and all(0 < param.top_p < 1 for param in sampling.params):
        scores, tokens = scaled.topk(_FEW, dim=-1)
        mass = (scores - scaled.logsumexp(-1, keepdim=True)).exp().sum(-1)
        if bool((mass >= sampling.top_p[:, None]).all()) and all(param.top_k <= _FEW for param in sampling.params):
            return scores, tokens
    return scaled.sort(dim=-1, descending=True, stable=True)


def gumbel_max(probs: Tensor, keys: Tensor, tokens: Tensor | None = None) -> Tensor:
    """Draws one token per distribution by Gumbel-max, in the form of an exponential race: argmax(probs / Exp(1) noise).

    Args:
        probs: nonnegative weights, need not sum to 1  # [batch, n, m]
        keys: from position_keys  # int64 [batch, n]
        tokens: see Distribution.

    Returns:
        int64 [batch, n]
    """
    if tokens is None:
        every = torch.arange(probs.shape[-1], device=probs.device)
        return (probs / exponentials(keys, every)).argmax(-1)
    winner = (probs / exponentials(keys, tokens)).argmax(-1, keepdim=True)
    return tokens.gather(-1, winner)[..., 0]


def choose_tokens(
    logits: Tensor,
    sampling: RowSampling,
    positions: Tensor,
    purpose: Purpose = Purpose.TOKEN,
    *,
    need_probs: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Each row's token at each position.

    Args:
        logits: [batch, n, vocab]
        sampling: the rows' parameters.
        positions: index of each token in its row's completion  # int64 [batch, n]
        purpose: TOKEN for the target; the drafter passes TOKEN under the coupled rule, DRAFT under the rejection rule.
        need_probs: also return what the tokens were drawn from.

    Returns:
        tokens int64 [batch, n]; probs float32 [batch, n, vocab], or None where not needed or all rows are greedy
    """
    if sampling.all_greedy:
        return logits.argmax(-1), None
    if logits.device.type == "cpu" and logits.shape[-1] >= CACHED and len(sampling.params) > 1:
        # Row by row, as in exponentials; and each row pays for its own parameters alone.
        rows = [
            choose_tokens(logits[i : i + 1], sampling.row(i), positions[i : i + 1], purpose)[0]
            for i in range(len(sampling.params))
        ]
        return torch.cat(rows), distribution(logits, sampling).dense(logits.shape[-1]) if need_probs else None
    drawn_from = distribution(logits, sampling)
    tokens = gumbel_max(drawn_from.probs, position_keys(sampling.keys, positions, purpose), drawn_from.tokens)
    return tokens, drawn_from.dense(logits.shape[-1]) if need_probs else None
