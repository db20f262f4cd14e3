"""vLLM as an engine of ours: requests in, completions out, as each sequence ends.

vLLM's own step loop is driven here, in the caller's thread: rows are added as its batch has room and leave as they end. Tokens are
all that goes in and out: the prompt is tokenised, and stop strings are found, where the native engine has that done too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch

from specbatch.engine.request import Completion, FinishReason, Request
from specbatch.engine.stats import EngineStats
from specbatch.errors import DeviceError, OutOfMemoryError, SpecbatchError

_AHEAD = 4  # one row in so many waits inside vLLM, so that a slot that comes free is filled in the next step
_REASONS = {"stop": "stop", "length": "length"}
_MEMORY = ("out of memory", "No available memory", "KV cache is needed", "less than desired")


class StepLoop(Protocol):
    """What is used of vLLM's LLMEngine."""

    def add_request(self, request_id: str, prompt: Any, params: Any, *, lora_request: Any = None) -> Any:
        """Queues a row; ValueError where it can never run."""
        ...

    def step(self) -> list[Any]:
        """One forward of all rows; the RequestOutputs that have something new."""
        ...

    def abort_request(self, request_ids: list[str]) -> Any:
        """Drops rows."""
        ...


@dataclass(slots=True)
class _Row:
    request: Request
    token_ids: list[int] = field(default_factory=list)


class VllmEngine:
    """One replica.

    Args:
        loop: vLLM's engine.
        sampling: makes vLLM's SamplingParams of a request, whose tokens are sent as they come where it has a stop check.
        slots: rows in one of its forwards, at the most.
        k: tokens drafted a round; 0 without a drafter.
        adapter: vLLM's LoRARequest for every row, or None.
    """

    def __init__(
        self, loop: StepLoop, sampling: Callable[[Request], Any], *, slots: int, k: int = 0, adapter: Any = None
    ) -> None:
        self._loop = loop
        self._sampling = sampling
        self._slots = slots
        self._k = k
        self._adapter = adapter
        self._rows: dict[str, _Row] = {}
        self._added = 0
        self.stats = EngineStats(max_sequences=slots)
        self.stats.k_changes.append((0, k))

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
        finally:  # a caller that stops early leaves no rows behind
            if self._rows:
                self._loop.abort_request(list(self._rows))
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
            name = str(self._added)  # a row's own id may be anything
            self._added += 1
            try:
                with engine_errors():
                    self._loop.add_request(
                        name,
                        {"prompt_token_ids": list(request.prompt_token_ids)},
                        self._sampling(request),
                        lora_request=self._adapter,
                    )
            except (ValueError, TypeError) as error:
                self.stats.failed += 1
                refused.append(Completion(request, (), "error", error=f"vLLM refuses the row: {first_line(error)}"))
                continue
            self._rows[name] = _Row(request)
        self.stats.active = min(len(self._rows), self._slots)
        return refused

    def _step(self) -> list[Completion]:
        start = time.perf_counter()
        with engine_errors():
            outputs = self._loop.step()
        self.stats.seconds["verify"] += time.perf_counter() - start
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
        new = list(found.token_ids)
        stop = row.request.stop
        kept = stop(new) if stop is not None and new else None
        row.token_ids += new[:kept]
        if kept is not None:
            if not output.finished:
                self._loop.abort_request([output.request_id])
            return self._end(output.request_id, "stop", found.spec_decode_metrics if output.finished else None)
        if not output.finished:
            return None
        reason = _REASONS.get(found.finish_reason, "error")
        return self._end(output.request_id, cast("FinishReason", reason), getattr(found, "spec_decode_metrics", None))

    def _end(self, name: str, reason: FinishReason, metrics: Any) -> Completion:
        row, stats = self._rows.pop(name), self.stats
        if reason == "error":
            stats.failed += 1
            return Completion(row.request, (), "error", error="vLLM gave the row up")
        stats.finished += 1
        stats.emitted += len(row.token_ids)
        stats.prompt_tokens += len(row.request.prompt_token_ids)
        if not self._k:
            return Completion(row.request, row.token_ids, reason, rounds=len(row.token_ids))
        if metrics is None:  # vLLM counts drafts of rows that it has ended itself
            return Completion(row.request, row.token_ids, reason, counts_speculation=False)
        self._count(metrics.per_step_drafted, metrics.per_step_accepted)
        accepted, rounds = sum(metrics.per_step_accepted), len(metrics.per_step_accepted)
        return Completion(row.request, row.token_ids, reason, rounds, metrics.num_draft_tokens, accepted)

    def _count(self, drafted: list[int], accepted: list[int]) -> None:
        stats = self.stats
        missing = max(drafted, default=0) - len(stats.drafted_by_position)
        stats.drafted_by_position += [0] * missing
        stats.accepted_by_position += [0] * missing
        for of_round, kept in zip(drafted, accepted, strict=True):
            stats.drafted += of_round
            stats.accepted += kept
            for position in range(of_round):
                stats.drafted_by_position[position] += 1
                stats.accepted_by_position[position] += position < kept


@contextmanager
def engine_errors() -> Iterator[None]:
    """What stops vLLM's engine as the errors of a run; ValueError and TypeError, which are of a row or an argument, pass."""
    try:
        yield
    except SpecbatchError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in _MEMORY):
            raise OutOfMemoryError(
                f"vLLM ran out of memory ({text})",
                where="spec.engine",
                remedy="lower batching.maxSequences or batching.maxLength, or use more GPUs",
            ) from error
        if isinstance(error, ValueError | TypeError):
            raise
        raise DeviceError(
            f"vLLM's engine has died ({text})",
            where="spec.engine",
            remedy="what it wrote to standard error says why; finished rows are saved, and the same command goes on with the rest",
        ) from error


def first_line(error: BaseException) -> str:
    """Of its message; its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
