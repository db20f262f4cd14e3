"""How near the target came to another token: what decided a position, and by how much.

Two correct forwards of one model give logits that differ by rounding: batch mates, the number of positions verified at once and
the dtype change the order in which numbers are added. Where two tokens are nearer than that, either may win. A `Contest` says
which tokens may win when every logit is uncertain by half of a bound, and how large a bound a token would need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from specbatch.engine.counter_rng import Purpose, exponentials, position_keys
from specbatch.engine.logits.grammar import GrammarRound
from specbatch.engine.logits.options import Processor
from specbatch.engine.logits.processors import process
from specbatch.engine.logits.row_options import RowOptions
from specbatch.engine.request import Request

# In logits: above every rounding of float32, far below what separates tokens; and machine epsilons of the largest logit: see tie_bound.
_LEAST_BOUND, _ROUNDINGS = 1e-4, 6.0
_OF_FP8_KV = 1e-3, 16.0  # where keys and values are kept in FP8
_SMALLEST_NOISE = 2.0**-32  # what the uniform draws resolve; a draw of 0 does not happen
_LARGEST_BOUND = 1e4
_BISECTIONS = 40


def bound_in_words(*, fp8_kv: bool) -> str:
    """`tie_bound` in words."""
    least, roundings = _OF_FP8_KV if fp8_kv else (_LEAST_BOUND, _ROUNDINGS)
    return (
        f"{roundings:.0f} epsilons of the dtype times the largest logit, at least {least}{', with KV in FP8' * fp8_kv}"
    )


def tie_bound(dtype: torch.dtype, logits: Tensor, *, fp8_kv: bool = False) -> float:
    """How far apart two tokens' logits may be, in float32, for a forward in `dtype` to take either: 6 epsilons of the largest logit.

    A forward rounds each logit once by up to eps / 2 of its size, and all that went before it has been rounded too. Measured against
    the same weights in float32, in units of eps * max|logit|, alike in bfloat16 and float16: on prompts of text the ten best logits
    are off against each other by 1.0 on average, by 3.1 in the worst percent of positions, at 16 and at 30 layers (the embedded
    target, SmolLM2-135M); of 59 flips in 2,288 positions none had a margin above 1.5. On prompts of random tokens (the embedded
    target, H100, torch 2.11) they are off by 1.2 to 1.4 in transformers and by 1.05 to 1.2 in the graphs runner, in the worst percent
    by 4.4 to 6.3 and by 3.6 to 4.6; of 32 flips in 5,760 positions in bfloat16 the largest margin was 5.65, by transformers (sdpa and
    eager) as by the graphs runner. bfloat16 (eps 2**-7) at a largest logit of 20 thus has a bound of 0.94, float16 (2**-10) one
    of 0.117; float32, whose formula gives 1.4e-5 there, has 1e-4, the least bound.

    With KV in FP8 a last bit of a key is now and then one of 1/16: on prompts of text (SmolLM2-135M, bfloat16 against float32, both with KV
    in FP8) the ten best logits are off by 2.1 on average and by 6.2 in the worst percent, where without it is 0.9 and 2.4; of 107
    flips in 1,920 positions the largest margin was 3.8, without it 1.8. So it has 16 epsilons.

    Args:
        dtype: that the run computed in.
        logits: in float32, of the position; -inf where they are not known  # [vocab]
        fp8_kv: keys and values are kept in FP8.
    """
    least, roundings = _OF_FP8_KV if fp8_kv else (_LEAST_BOUND, _ROUNDINGS)
    return max(least, roundings * torch.finfo(dtype).eps * float(logits[logits > -torch.inf].abs().max()))


@dataclass(frozen=True, slots=True)
class Contest:
    """What decides one token of one row.

    scores: the highest wins: greedy logits, or logits / temperature - log(noise), as Gumbel-max has it  # float64 [vocab]
    scaled: logits / temperature, by which top-k and top-p keep tokens  # float64 [vocab]
    temperature: logits per unit of a score; 1 for greedy rows
    growth: of an error in a logit, by the repetition penalty
    """

    scores: Tensor
    scaled: Tensor
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    growth: float = 1.0

    @classmethod
    def of(cls, logits: Tensor, request: Request, completion: Sequence[int]) -> Self:
        """The contest for the next token of the request's completion under the coupled rule.

        Args:
            logits: the target's at that position  # [vocab]
            request: for its options, its sampling parameters and its random stream.
            completion: its tokens so far.
        """
        options, params, position = request.logits, request.sampling, len(completion)
        scaled = _processed(logits, request, completion).double()
        growth = max(options.repetition_penalty, 1 / options.repetition_penalty)
        if params.greedy:
            return cls(scaled, scaled, growth=growth)
        scaled = scaled / params.temperature
        key = torch.tensor([request.random_key], device=logits.device)
        keys = position_keys(key, torch.tensor([[position]], device=logits.device), Purpose.TOKEN)
        noise = exponentials(keys[0, 0], torch.arange(logits.shape[-1], device=logits.device))
        scores = scaled - noise.double().clamp(min=_SMALLEST_NOISE).log()
        top_k, top_p = params.top_k, params.top_p
        return cls(scores, scaled, params.temperature, top_k, top_p, options.min_p, growth)

    def winners(self, bound: float) -> list[int]:
        """The tokens that may win when differences of logits are uncertain by `bound`, the best first."""
        slack = bound * self.growth / self.temperature
        possible, sure = self._kept(slack)
        lead = self.scores[sure].max() if bool(sure.any()) else self.scores.new_tensor(-torch.inf)
        found = (possible & (self.scores >= lead - slack)).nonzero()[:, 0]
        return [int(token) for token in found[self.scores[found].argsort(descending=True, stable=True)]]

    def margin(self, token: int) -> float:
        """The smallest bound, in logits, under which the token may win; 0 for the winner."""
        if self.top_k == 0 and self.top_p == 1.0 and self.min_p == 0.0:
            return float(self.scores.max() - self.scores[token]) * self.temperature / self.growth
        low, high = 0.0, _LARGEST_BOUND
        if token in self.winners(low):
            return low
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2 if low else high / 1024  # small ones first: they are the usual ones
            low, high = (low, middle) if token in self.winners(middle) else (middle, high)
        return high

    def ranked(self, count: int) -> list[int]:
        """The tokens by score, the best first, kept by top-k and top-p or not."""
        best = self.scores.topk(min(count, len(self.scores)))
        return [int(token) for token in best.indices[best.values > -torch.inf]]

    def _kept(self, slack: float) -> tuple[Tensor, Tensor]:
        """Tokens that top-k and top-p may keep, and those that they keep for sure.  # bool [vocab], bool [vocab]"""
        scaled = self.scaled
        possible = scaled > -torch.inf  # of banned tokens none is
        sure = possible.clone()
        if self.min_p > 0:
            least = scaled.max() + math.log(self.min_p)
            possible, sure = possible & (scaled >= least - slack), sure & (scaled > least + slack)
        if 0 < self.top_k < len(scaled):
            best = scaled.topk(self.top_k + 1).values
            possible = possible & (scaled >= best[-2] - slack)
            sure = sure & (scaled > best[-1] + slack)
        if self.top_p == 1.0:
            return possible, sure
        ordered, order = scaled.sort()  # rising, for searchsorted
        weights = (ordered - ordered[-1]).exp()
        of_possible, of_sure = weights * possible[order], weights * sure[order]
        # The mass that surely stands before a token, and the mass that may; scores off by slack / 2 change a share by exp(slack).
        before_surely = _mass_from(of_sure, torch.searchsorted(ordered, scaled + slack, right=True))
        before_maybe = _mass_from(of_possible, torch.searchsorted(ordered, scaled - slack)) - (
            (scaled - ordered[-1]).exp() * possible
        )
        growth = torch.tensor(slack, dtype=torch.float64).exp()
        possible = possible & (before_surely / of_possible.sum() / growth < self.top_p)
        total = of_sure.sum()
        sure = sure & (before_maybe * growth < self.top_p * total) if float(total) > 0 else torch.zeros_like(sure)
        return possible, sure


def _processed(logits: Tensor, request: Request, completion: Sequence[int]) -> Tensor:
    """By all of the request's options but min-p, at whose threshold a token may be kept or not.  # [vocab]"""
    processors = request.processors & ~Processor.MIN_P
    if not processors:
        return logits
    prompt, device = list(request.prompt_token_ids), logits.device
    history = torch.tensor([[*prompt, *completion]], device=device)
    positions, prompts = torch.tensor([[history.shape[1]]], device=device), torch.tensor([len(prompt)], device=device)
    options, mask = RowOptions.of([request], device), None
    if request.grammar is not None:
        grammars = GrammarRound([request.grammar], len(logits))
        grammars.fill(1, [[]])
        mask = grammars.masks[0][:, None].to(device)
    greedy = torch.zeros(1, device=device)
    return process(logits[None, None], options, processors, history, positions, prompts, greedy, mask)[0, 0]


def _mass_from(weights: Tensor, at: Tensor) -> Tensor:
    """The sum of weights[i:] for each i in `at`."""
    sums = torch.cat([weights.flip(0).cumsum(0).flip(0), weights.new_zeros(1)])
    return sums[at]
