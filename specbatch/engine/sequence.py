"""A sequence on its way through the engine: waiting, running, ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from specbatch.engine.request import Completion, FinishReason, Request, TokenLogprobs

_OF_PROMPT = 8


@dataclass(slots=True, eq=False)
class SequenceState:
    """A request, what it has so far, and where it runs.

    token_ids: generated and kept
    rounds, drafted, accepted: what it took part in, and what of it
    slot: of the model runner; -1 while it waits
    group: of the rows that have their rounds together, where several groups are in flight
    in_flight: tokens that rounds in flight may still add, at the most
    logprobs: of the tokens, where the request asks for them
    prompt_logprobs: waits for the prompt's; there from the first prefill on
    page_keys: of the tokens that it had when it last waited, see prefix_keys; None until someone asks
    ended: finished, failed or evicted; what rounds in flight say of it counts for nothing
    """

    request: Request
    token_ids: list[int] = field(default_factory=list)
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    slot: int = -1
    group: int = 0
    in_flight: int = 0
    ended: bool = False
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: Callable[[], Sequence[TokenLogprobs]] | None = None
    page_keys: Sequence[bytes] | None = None

    @property
    def length(self) -> int:
        """Position of the last token = tokens whose KV the target must hold before the next round."""
        return len(self.request.prompt_token_ids) + len(self.token_ids) - 1

    @property
    def remaining(self) -> int:
        """New tokens it may still take."""
        return self.request.max_new_tokens - len(self.token_ids)

    @property
    def scores_prompt(self) -> bool:
        """Whether its next prefill makes the log probabilities of its prompt: of every position, none taken from another row."""
        return self.request.prompt_logprobs is not None and self.prompt_logprobs is None

    def text(self, of_prompt: int = _OF_PROMPT) -> list[int]:
        """Its own tokens behind the last of the prompt's, by which their begin is found."""
        return [*self.request.prompt_token_ids[-of_prompt:], *self.token_ids]

    def reach(self, k: int) -> int:
        """Positions that a next round of k drafts may write, counted from 0."""
        return self.length + min(self.in_flight, self.remaining) + k + 2

    def extend(self, new_token_ids: list[int], logprobs: Sequence[TokenLogprobs] = ()) -> FinishReason | None:
        """Keeps what a round committed, up to where the sequence ends; says why if it does."""
        reason: FinishReason | None = None
        if len(new_token_ids) >= self.remaining:
            new_token_ids, reason = new_token_ids[: self.remaining], "length"
        eos = self.request.eos_token_ids
        end = next((i for i, token in enumerate(new_token_ids) if token in eos), None) if eos else None
        if end is not None:
            new_token_ids, reason = new_token_ids[: end + 1], "stop"
        if self.request.stop is not None:
            keep = self.request.stop(new_token_ids)
            if keep is not None:
                new_token_ids, reason = new_token_ids[:keep], "stop"
        self.token_ids.extend(new_token_ids)
        self.logprobs += logprobs[: len(new_token_ids)]
        if self.request.grammar is not None and reason is None:
            self.request.grammar.commit(new_token_ids)
        return reason

    def complete(self, reason: FinishReason, error: str | None = None) -> Completion:
        """The sequence as the caller gets it."""
        request, counts = self.request, (self.rounds, self.drafted, self.accepted)
        logprobs = None if request.top_logprobs is None else self.logprobs
        of_prompt = None if self.prompt_logprobs is None or reason == "error" else self.prompt_logprobs()
        return Completion(request, self.token_ids, reason, *counts, error, logprobs=logprobs, prompt_logprobs=of_prompt)

    def waiting_again(self) -> SequenceState:
        """The same with no trace of where it ran: to be prefilled anew, its own tokens with its prompt."""
        counts = self.rounds, self.drafted, self.accepted
        tokens = self.request, self.token_ids
        return SequenceState(*tokens, *counts, logprobs=self.logprobs, prompt_logprobs=self.prompt_logprobs)
