"""Recorded log probabilities beside those of a replay: of prompts, and of the tokens of texts that came out the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from specbatch.engine.request import Completion, TokenLogprobs
from specbatch.results.rows import Choice, ResultRow
from specbatch.runner.output.logprobs import LEAST


def differences(row: ResultRow, choice: Choice, completion: Completion, *, same_text: bool) -> Iterator[float]:
    """How far each recorded one of a completion is from the replay's.

    Args:
        row: as recorded.
        choice: of the row.
        completion: its replay: of the first one, with the prompt's.
        same_text: whether the tokens are the same.
    """
    if same_text:
        yield from _between(_values(choice.logprobs), completion.logprobs or ())
    yield from _between(_values(row.prompt_logprobs), completion.prompt_logprobs or ())


def _between(recorded: Sequence[float | None], replayed: Sequence[TokenLogprobs]) -> Iterator[float]:
    """Of the last tokens: before them stand a prompt's first, or all of it (echo)."""
    for one, other in zip(reversed(recorded), reversed(replayed), strict=False):
        if one is not None:
            yield abs(one - max(LEAST, other.logprob))


def _values(form: dict[str, Any] | None) -> Sequence[float | None]:
    """Of either form of OpenAI's."""
    if form is None:
        return ()
    found: Sequence[float | None] = form.get("token_logprobs") or [one["logprob"] for one in form.get("content") or ()]
    return found
