"""Every operation of a packed decoder in plain PyTorch: what the kernels are held against, and what runs without Triton.

Names of sizes: T tokens of a forward, H hidden size, I intermediate size, D head_dim, P pages, S slots.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.counter_rng import Purpose, exponentials, position_keys
from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.describe.operations import Normed
from specbatch.engine.graphs.experts.operations import TorchExperts
from specbatch.engine.graphs.reference_attention import TorchAttention
from specbatch.engine.logits.logprobs import Logprobs
from specbatch.engine.logits.processors import process_slots
from specbatch.engine.quantization.weight import Weight, multiply
from specbatch.engine.request import SamplingParams
from specbatch.engine.sampling import RowSampling, distribution, gumbel_max
from specbatch.engine.speculation.acceptance import accept_coupled


class Ahead(NamedTuple):
    """What a linear has worked out for the norm that follows it, without its scale.

    scaled: times the norm's weights  # [T, H]
    squares: sums of squares of stretches of a token's hidden states  # float32 [stretches, T or more]
    """

    scaled: Tensor
    squares: Tensor


class TorchOps(TorchAttention, TorchExperts):
    """The operations, on any device and in any float dtype."""

    process_logits = staticmethod(process_slots)
    logprobs = staticmethod(Logprobs.of)

    def next_tokens(
        self, history: Tensor, lengths: Tensor, rows: Tensor, n: int, back: int, drafted: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The next n tokens of each row, counted from `back` before its last one, and behind what is drafted so far.

        Args:
            history: see RowState.  # int64 [slots, positions]
            lengths: int64 [slots]
            rows: slots of the rows  # int64 [B]
            n: tokens of a row.
            back: tokens before the last.
            drafted: int64 [1], or None for 0

        Returns:
            tokens [B * n], position of each row's first [B], slot of each token [B * n], its position (may be -1) [B * n]; int64
        """
        first = lengths[rows] - back + (0 if drafted is None else drafted)
        positions = first[:, None] + torch.arange(n, device=rows.device)
        tokens = history[rows[:, None], positions.clamp(min=0)]
        every = rows[:, None].expand_as(positions).reshape(-1).contiguous()
        return tokens.reshape(-1), first, every, positions.reshape(-1)

    def keep_drafts(
        self, history: Tensor, slots: Tensor, positions: Tensor, drafts: Tensor, drafted: Tensor, *, anew: bool
    ) -> None:
        """Writes each row's draft token behind the last of its positions, and counts it.

        Args:
            history: int64 [slots, positions]
            slots: int64 [B]
            positions: of the n tokens that the row was drafted from  # int64 [B * n]
            drafts: int64 [B]
            drafted: int64 [1]
            anew: counting begins with it.
        """
        history.index_put_((slots, positions.view(len(slots), -1)[:, -1] + 1), drafts)
        drafted.copy_(torch.ones_like(drafted) if anew else drafted + 1)

    def commit_coupled(
        self,
        history: Tensor,
        lengths: Tensor,
        ends: Tensor,
        slots: Tensor,
        tokens: Tensor,
        finite: Tensor,
        num_drafted: Tensor | None,
        outcome: Tensor,
    ) -> None:
        """Accepts drafts by the coupled rule and moves every row on by its accepted + 1 tokens, at most to its end.

        A row at its end stays there, however many rounds it rides along until the host has seen it.

        Args:
            history: drafts behind the rows' last tokens, over which the target's tokens are written  # int64 [slots, positions]
            lengths: int64 [slots]
            ends: int64 [slots]
            slots: int64 [B]
            tokens: the target's  # int64 [B, k + 1]
            finite: bool [B, k + 1]
            num_drafted: None for k of every row  # int64 [B]
            outcome: accepted, drafted, positions before the first that is not finite, then the tokens  # int64 [B, 3 + k + 1 or more]
        """
        last, k = lengths[slots], tokens.shape[1] - 1
        at = last[:, None] + 1 + torch.arange(k + 1, device=slots.device)
        drafted = torch.full_like(last, k) if num_drafted is None else num_drafted.clamp(max=k)
        accepted = accept_coupled(history[slots[:, None], at[:, :k]], drafted, tokens).accepted
        history.index_put_((slots[:, None], at), tokens)
        lengths.index_put_((slots,), last + torch.minimum(accepted + 1, ends[slots] - last))
        sound = finite.long().cumprod(-1).sum(-1)
        outcome[:, : k + 4] = torch.cat([torch.stack([accepted, drafted, sound], 1), tokens], 1)

    def embed(self, tokens: Tensor, weight: Tensor) -> Tensor:
        """Rows of the embedding.  # int64 [T], [vocab, H] -> [T, H]

        A target whose vocabulary is padded further may emit tokens that its drafter has no row for: the last one stands in. What is then
        drafted costs acceptance only. The target's own prompts hold no such tokens.
        """
        return F.embedding(tokens.clamp(max=len(weight) - 1), weight)

    def linear(self, x: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
        """x @ weight.T + bias.  # [T, in], [out, in] -> [T, out]"""
        return multiply(x, weight, bias)

    def norm_linear(
        self,
        x: Tensor,
        norm: Tensor,
        eps: float,
        weight: Weight,
        bias: Tensor | None = None,
        ahead: Ahead | Normed | None = None,
        following: Weight | None = None,
    ) -> Tensor:
        """linear(rms_norm(x)).

        Args:
            x: [T, H]
            norm: weights of the norm  # [H]
            eps: of the norm.
            weight: [out, H]
            bias: [out]
            ahead: what is there for the norm already.
            following: weights that are read next: a kernel may ask for them.

        Returns:
            [T, out]
        """
        del ahead, following
        return self.linear(self.rms_norm(x, norm, eps), weight, bias)

    def linear_add(self, x: Tensor, weight: Weight, residual: Tensor) -> Tensor:
        """residual + x @ weight.T; what was the residual is not used again.  # [T, in], [out, in], [T, out] -> [T, out]"""
        return residual + self.linear(x, weight)

    def linear_add_ahead(
        self, x: Tensor, weight: Weight, residual: Tensor, norm: Tensor, following: Weight
    ) -> tuple[Tensor, Ahead | None]:
        """linear_add, and what spares the norm that comes next a kernel of its own; None where there is no such thing.

        Args:
            x: [T, in]
            weight: [out, in]
            residual: not used again  # [T, out]
            norm: weights of the norm  # [out]
            following: see norm_linear.
        """
        del norm, following
        return self.linear_add(x, weight, residual), None

    def norm_gated(
        self,
        x: Tensor,
        norm: Tensor | None,
        eps: float,
        gate_up: Weight,
        ahead: Ahead | Normed | None = None,
        following: Weight | None = None,
        activation: Activation = SILU,
    ) -> Tensor:
        """gate(linear(rms_norm(x))), or without a norm; see norm_linear.  # [T, H], [2 I: gate's rows, then up's, H] -> [T, I]"""
        del ahead, following
        return self.gate(self.linear(x if norm is None else self.rms_norm(x, norm, eps), gate_up), activation)

    def sample(self, logits: Tensor, keys: Tensor | None, temperature: Tensor | None) -> tuple[Tensor, Tensor]:
        """Each position's token: the likeliest, or where temperature > 0 one drawn by Gumbel-max.

        Args:
            logits: [R, vocab]
            keys: from position_keys; None where temperature is  # int64 [R]
            temperature: of each position, 0 for greedy; None: all greedy  # float32 [R]

        Returns:
            tokens int64 [R], the lowest id among equals; whether all logits of a position are finite or -inf, and not all -inf  # bool [R]
        """
        wide = logits.float()
        best = wide.amax(-1)
        finite = best.isfinite()
        if temperature is None or keys is None:
            return wide.argmax(-1), finite
        noise = exponentials(keys, torch.arange(logits.shape[-1], device=logits.device))
        drawn = wide / torch.where(temperature > 0, temperature, 1.0)[:, None] - noise.log()
        return torch.where((temperature > 0)[:, None], drawn, wide).argmax(-1), finite

    def sample_filtered(
        self, logits: Tensor, keys: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As sample, among the tokens that top-k or top-p keeps; see sampling.distribution. A row may have one of them, not both.

        Args:
            logits: [R, vocab]
            keys: from position_keys  # int64 [R]
            temperature: of each position, 0 for greedy  # float32 [R]
            top_k: 0 keeps all  # int64 [R]
            top_p: 1 keeps all  # float32 [R]

        Returns:
            as sample
        """
        kinds = (SamplingParams(), SamplingParams(1.0, top_p=0.5))
        kept = distribution(logits[:, None], RowSampling(kinds, temperature, top_k, top_p, keys))
        return gumbel_max(kept.probs, keys[:, None], kept.tokens)[:, 0], logits.amax(-1).isfinite()

    def position_keys(self, row_keys: Tensor, positions: Tensor, purpose: Purpose) -> Tensor:
        """See counter_rng.position_keys.  # int64 [B], int64 [B, n] -> int64 [B, n]"""
        return position_keys(row_keys, positions, purpose)

    def top_candidates(self, logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The `count` likeliest tokens, from the highest down.  # [R, vocab] -> float32 [R, count], int64 [R, count]"""
        values, tokens = logits.topk(count, dim=-1)
        return values.float(), tokens
