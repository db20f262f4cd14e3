"""What a row may ask of its logits before a token is chosen from them: the request's side, without tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

ALWAYS = 2**62  # TokenBias.until: for the whole completion
MOST_BIASED = 2048  # tokens of a row with a bias
MOST_BAD_WORDS = 64  # of more than one token
LONGEST_BAD_WORD = 16  # tokens
LARGEST_NGRAM = 16  # of no_repeat_ngram_size


class Processor(IntFlag):
    """The logits processors that a row needs. A batch runs those that any of its rows needs; the others are not launched."""

    NONE = 0
    BIAS = 1
    BAD_WORDS = 2
    REPETITION = 4
    FREQUENCY = 8
    NGRAMS = 16
    MIN_P = 32
    GRAMMAR = 64
    LOGPROBS = 128  # changes no logits

    @property
    def changes_logits(self) -> bool:
        """Whether any of them does."""
        return bool(self & ~Processor.LOGPROBS)


@dataclass(frozen=True, slots=True)
class TokenBias:
    """Added to a token's logit as long as the completion has fewer than `until` tokens; -inf bans it."""

    token: int
    value: float
    until: int = ALWAYS


@dataclass(frozen=True, slots=True)
class LogitsOptions:
    """How a row's logits are changed, in this order (`processors.process`), before temperature, top-k and top-p.

    bias: logit_bias, bans (bad_words of one token, suppress_tokens), bans for a while (min_tokens); one entry a token and `until`
    bad_words: of several tokens: the last one is banned where the completion ends with the others
    repetition_penalty: divides positive and multiplies negative logits of tokens that stand in prompt or completion; 1: nothing
    frequency_penalty: subtracted for each time that a token stands in the completion
    presence_penalty: subtracted once for a token that stands in the completion
    no_repeat_ngram_size: bans tokens that would complete an n-gram of prompt and completion a second time; 0: nothing
    min_p: keeps tokens of at least this share of the likeliest token's probability, at the row's temperature; 0 keeps all
    """

    bias: Sequence[TokenBias] = ()
    bad_words: Sequence[Sequence[int]] = ()
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    min_p: float = 0.0

    @property
    def processors(self) -> Processor:
        """Those that do anything."""
        needed = {
            Processor.BIAS: bool(self.bias),
            Processor.BAD_WORDS: bool(self.bad_words),
            Processor.REPETITION: self.repetition_penalty != 1.0,
            Processor.FREQUENCY: bool(self.frequency_penalty or self.presence_penalty),
            Processor.NGRAMS: self.no_repeat_ngram_size > 0,
            Processor.MIN_P: self.min_p > 0,
        }
        return Processor(sum(processor for processor, asked in needed.items() if asked))


NO_OPTIONS = LogitsOptions()
