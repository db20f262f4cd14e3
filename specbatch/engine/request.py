"""What goes into the engine and what comes out: token ids, no text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from specbatch.engine.logits.grammar import Grammar
from specbatch.engine.logits.options import NO_OPTIONS, LogitsOptions, Processor

FinishReason = Literal["stop", "length", "error"]
AcceptanceRule = Literal["coupled", "rejection"]

_LEAST_TEMPERATURE = 1e-5
_LEAST_TOP_P = 1e-9


class StopCheck(Protocol):
    """Finds a stop string: fed the row's new tokens in order, once each.

    Returns how many of *these* tokens the row keeps when it stops within them (at least 1: the token that
    completes the stop string is kept), or None when it goes on.
    """

    def __call__(self, new_token_ids: Sequence[int]) -> int | None:
        """How many of the new tokens to keep, or None to go on."""
        ...


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a row's next token is chosen from the target's logits.

    temperature 0 is greedy. Otherwise logits / temperature, then top-k (0 keeps all), then top-p (1.0 keeps all), in
    this order, as in transformers and vLLM.

    A temperature below 1e-5 is greedy, as in vLLM: logits divided by less leave float32. A top-p below 1e-9 is that: the likeliest of
    a million tokens has more, and less than float32 holds would keep no token at all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < _LEAST_TEMPERATURE:
            object.__setattr__(self, "temperature", 0.0)
        if self.top_p < _LEAST_TOP_P:
            object.__setattr__(self, "top_p", _LEAST_TOP_P)

    @property
    def greedy(self) -> bool:
        """Whether the row takes the most likely token, without a random draw."""
        return self.temperature == 0.0


class TokenLogprobs(NamedTuple):
    """Of one token: its own log probability, and those of the likeliest tokens at its place, the likeliest first."""

    token: int
    logprob: float
    top: Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Request:
    """One row to decode.

    `seed` and `id` alone make the row's random stream (`random_key`): batch mates, shards and restarts change nothing.
    """

    id: str
    prompt_token_ids: Sequence[int]
    max_new_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    seed: int = 0
    eos_token_ids: frozenset[int] = frozenset()  # empty: never stops at an end-of-sequence token
    stop: StopCheck | None = None
    logits: LogitsOptions = NO_OPTIONS
    grammar: Grammar | None = None
    top_logprobs: int | None = None  # of each token, beside its own log probability; None: neither
    prompt_logprobs: int | None = None  # likewise, of the prompt's tokens

    @property
    def processors(self) -> Processor:
        """The logits processors that it needs."""
        grammar = Processor.NONE if self.grammar is None else Processor.GRAMMAR
        return self.logits.processors | grammar | (Processor.NONE if self.top_logprobs is None else Processor.LOGPROBS)

    @property
    def random_key(self) -> int:
        """A signed 64-bit key from (seed, id)."""
        digest = hashlib.blake2b(f"{self.seed}\0{self.id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)


@dataclass(frozen=True, slots=True)
class Completion:
    """One row, ended.

    token_ids hold the end-of-sequence token or the tokens of the stop string where the row ended at one. `rounds`, `drafted`
    and `accepted` count this row's share of speculation, unless the engine does not tell it; an accepted token cut off by a stop still counts.
    """

    request: Request
    token_ids: Sequence[int]
    finish_reason: FinishReason
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    error: str | None = None  # a sentence, with finish_reason "error"
    counts_speculation: bool = True
    logprobs: Sequence[TokenLogprobs] | None = None  # of the tokens, where they were asked for
    prompt_logprobs: Sequence[TokenLogprobs] | None = None  # of the prompt's, but the first

    @property
    def acceptance_rate(self) -> float:
        """accepted / drafted; 0 where nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0
