"""vLLM as an engine of ours: requests in, completions out, as each sequence ends.

vLLM's own step loop is driven here, in the caller's thread: rows are added as its batch has room and leave as they end. Tokens are
all that goes in and out: the prompt is tokenised, and stop strings are found, where the native engine has that done too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from specbatch.engine.request import Completion, Request, TokenLogprobs
from specbatch.engine.sequence import SequenceState
from specbatch.engine.stats import EngineStats
from specbatch.errors import DeviceError, OutOfMemoryError, SpecbatchError

_AHEAD = 4  # one row in so many waits inside vLLM, so that a slot that comes free is filled in the next step
_MEMORY = ("out of memory", "No available memory", "KV cache is needed", "less than desired")


class VllmEngine:
    """One replica.

    Args:
        loop: vLLM's LLMEngine.
        sampling: makes vLLM's SamplingParams of a request, whose tokens are sent as they come where it has a stop check.
        slots: rows in one of its forwards, at the most.
        k: tokens drafted a round; 0 without a drafter.
        adapter: vLLM's LoRARequest for every row, or None.
        refusals: errors of vLLM's that are a row's, not the engine's.
    """

    def __init__(
        self,
        loop: Any,
        sampling: Callable[[Request], Any],
        *,
        slots: int,
        k: int = 0,
        adapter: Any = None,
        refusals: tuple[type[Exception], ...] = (ValueError, TypeError),
    ) -> None:
        self._loop, self._sampling, self._slots, self._k, self._adapter = loop, sampling, slots, k, adapter
        self._refusals = refusals
        self._rows: dict[str, SequenceState] = {}
        self._added = 0
        self.stats = EngineStats(max_sequences=slots, k_changes=[(0, k)])

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Decodes the requests, yielding each completion as its sequence ends; the iterable is drawn from as `Engine.generate` does.

        Raises:
            OutOfMemoryError: the device's memory does not hold a step.
            DeviceError: vLLM's engine has died.
        """
        source = iter(requests)
        try:
            while True:
                refused = self._admit(source)
                yield from refused
                if self._rows:
                    yield from self._step()
                elif not refused:
                    return
        except GeneratorExit:  # a caller that stops early leaves no rows behind
            self._loop.abort_request(list(self._rows))
            raise
        finally:
            self._rows.clear()
            self.stats.active = 0

    def _admit(self, source: Iterator[Request]) -> list[Completion]:
        """Fills vLLM's queue; the rows that it refuses end at once, each with its reason."""
        refused = []
        while len(self._rows) < self._slots + max(1, self._slots // _AHEAD):
            with self.stats.timed("idle"):
                request = next(source, None)
            if request is None:
                break
            name, row = str(self._added), SequenceState(request)  # a row's own id may be anything
            self._added += 1
            try:
                with engine_errors(*self._refusals):
                    prompt = {"prompt_token_ids": list(request.prompt_token_ids)}
                    self._loop.add_request(name, prompt, self._sampling(request), lora_request=self._adapter)
            except self._refusals as error:
                self.stats.failed += 1
                refused.append(row.complete("error", f"vLLM refuses the row: {first_line(error)}"))
            else:
                self._rows[name] = row
        self.stats.active = min(len(self._rows), self._slots)
        return refused

    def _step(self) -> list[Completion]:
        with self.stats.timed("verify"), engine_errors():
            outputs = self._loop.step()
        with self.stats.timed("host"):
            self.stats.rounds += 1
            self.stats.row_rounds += self.stats.active
            ended = [one for output in outputs if (one := self._take(output)) is not None]
            self.stats.active = min(len(self._rows), self._slots)
        return ended

    def _take(self, output: Any) -> Completion | None:
        """What a row has new; its completion where it has ended."""
        row = self._rows.get(output.request_id)
        if row is None:  # ended at its stop check, while a step was under way
            return None
        found = output.outputs[0]
        tokens, asked = list(found.token_ids), row.request.top_logprobs is not None
        if row.scores_prompt and (of_prompt := output.prompt_logprobs):  # once, when the whole prompt is computed
            scores = [_logprobs(of_prompt, at) for at in range(1, len(row.request.prompt_token_ids))]
            row.prompt_logprobs = lambda: scores
        reason = row.extend(tokens, [_logprobs(found.logprobs, at) for at in range(len(tokens))] if asked else ())
        if reason is None and not output.finished:
            return None
        del self._rows[output.request_id]
        if not output.finished:
            self._loop.abort_request([output.request_id])
        if reason is None:
            self.stats.failed += 1
            return row.complete("error", f"vLLM gave the row up ({found.finish_reason})")
        self.stats.finished += 1
        self.stats.emitted += len(row.token_ids)
        self.stats.prompt_tokens += len(row.request.prompt_token_ids)
        metrics = getattr(found, "spec_decode_metrics", None)
        if not self._k:
            row.rounds = len(row.token_ids)
        elif metrics is None:  # vLLM counts drafts of rows that it has ended itself
            return replace(row.complete(reason), counts_speculation=False)
        else:
            drafted, accepted = metrics.per_step_drafted, metrics.per_step_accepted
            row.rounds, row.drafted, row.accepted = len(accepted), sum(drafted), sum(accepted)
            at = [sum(count > position for count in accepted) for position in range(self._k)]
            self.stats.count_drafts(self._k, drafted, accepted, at)
        return row.complete(reason)


def _logprobs(scores: Any, at: int) -> TokenLogprobs:
    """Of a token of vLLM's FlatLogprobs, which have the token itself and then the likeliest ones."""
    here = slice(scores.start_indices[at], scores.end_indices[at])
    own, *likeliest = zip(scores.token_ids[here], scores.logprobs[here], strict=True)
    return TokenLogprobs(*own, likeliest)


@contextmanager
def engine_errors(*passing: type[Exception]) -> Iterator[None]:
    """What stops vLLM's engine as the errors of a run; but for those that are of a row or of an argument."""
    try:
        yield
    except SpecbatchError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in _MEMORY):
            remedy = "lower batching.maxSequences or batching.maxLength, or use more GPUs"
            raise OutOfMemoryError(f"vLLM ran out of memory ({text})", where="spec.engine", remedy=remedy) from error
        if isinstance(error, passing):
            raise
        remedy = "what it wrote to standard error says why; finished rows are saved, and the same command goes on with the rest"
        raise DeviceError(f"vLLM's engine has died ({text})", where="spec.engine", remedy=remedy) from error


def first_line(error: BaseException) -> str:
    """The sentence of an error: its first line, of one of pydantic's the first reason; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    found = next((line for line in lines if line.startswith("Value error, ")), lines[0])
    return found.removeprefix("Value error, ").partition(" [type=")[0]
