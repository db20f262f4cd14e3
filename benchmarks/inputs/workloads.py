"""Rows of random tokens whose right continuation is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.inputs.synthetic import Order
from specbatch.engine.logits.grammar import Grammar
from specbatch.engine.logits.options import NO_OPTIONS, LogitsOptions
from specbatch.engine.request import Completion, Request, SamplingParams


@dataclass(frozen=True)
class Rows:
    """Rows to decode: prompts, how many tokens each takes, how many rows at once, and how their tokens are chosen; a grammar by a row's number."""

    prompts: Sequence[Sequence[int]]
    new_tokens: Sequence[int]
    at_once: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    logits: LogitsOptions = NO_OPTIONS
    top_logprobs: int | None = None
    grammar: Callable[[int], Grammar | None] | None = None

    @property
    def prompt_total(self) -> int:
        """Prompt tokens of all rows."""
        return sum(map(len, self.prompts))

    @property
    def new_total(self) -> int:
        """New tokens of all rows."""
        return sum(self.new_tokens)

    @property
    def max_length(self) -> int:
        """Tokens of the longest row."""
        return max(len(prompt) + new for prompt, new in zip(self.prompts, self.new_tokens, strict=True))

    @property
    def mean_length(self) -> float:
        """Tokens in the cache of a row, averaged over the tokens that are made."""
        pairs = zip(self.prompts, self.new_tokens, strict=True)
        return sum(new * (len(prompt) + new / 2) for prompt, new in pairs) / self.new_total

    def requests(self) -> list[Request]:
        """As the engine takes them."""
        pairs = enumerate(zip(self.prompts, self.new_tokens, strict=True))
        asked: dict[str, Any] = {"sampling": self.sampling, "logits": self.logits, "top_logprobs": self.top_logprobs}
        grammar = self.grammar or (lambda _: None)
        return [Request(str(index), prompt, new, grammar=grammar(index), **asked) for index, (prompt, new) in pairs]

    def right(self, order: Order, completions: Sequence[Completion]) -> int:
        """How many rows have every token right; a row that is missing has none."""
        found = {done.request.id: list(done.token_ids) for done in completions}
        pairs = enumerate(zip(self.prompts, self.new_tokens, strict=True))
        return sum(found.get(str(index)) == order.expected(prompt, new) for index, (prompt, new) in pairs)


def equal_lengths(vocab: int, rows: int, prompt: int, new: int, seed: int) -> Rows:
    """So many rows of one prompt length, all at once."""
    generator = torch.Generator().manual_seed(seed)
    return Rows(torch.randint(0, vocab, (rows, prompt), generator=generator).tolist(), [new] * rows, rows)


def mixed_lengths(vocab: int, at_once: int = 512, rows: int = 1000) -> Rows:
    """The first of the 1,000 rows of mixed lengths: log-normal prompts of 16 to 2,048 tokens, outputs of 16 to 1,024."""
    generator = torch.Generator().manual_seed(11)
    prompt = torch.randn(1000, generator=generator).add_(5.3).exp_().long().clamp_(16, 2048)
    new = torch.randn(1000, generator=generator).mul_(0.8).add_(5.0).exp_().long().clamp_(16, 1024)
    assert (int(prompt.sum()), int(new.sum())) == (305_678, 202_996), "torch draws other lengths than it did"
    prompts = [torch.randint(0, vocab, (length,), generator=generator).tolist() for length in prompt.tolist()[:rows]]
    return Rows(prompts, new.tolist()[:rows], at_once)
