"""Turns a finished or refused row into its line in the results or the errors file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from specbatch.engine.request import Completion, TokenLogprobs
from specbatch.results.rows import Choice, ErrorCode, ErrorRow, OpenAIForm, ResultRow, Speculation, Usage
from specbatch.runner.chat.answer import answer_in
from specbatch.runner.models.stop_strings import final_text
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.output.logprobs import chat_logprobs, completion_logprobs
from specbatch.runner.requests import Decoded
from specbatch.runner.rows.row import BadRow, Row


@dataclass(frozen=True, slots=True)
class _Prompt:
    """Of a row: its tokens, the log probabilities of those behind the first, where they were asked for, and whether it ends within reasoning."""

    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprobs] | None
    in_reasoning: bool

    def of_each(self, most: int | None) -> list[TokenLogprobs]:
        """With so many of the likeliest tokens."""
        return [one._replace(top=one.top[:most]) for one in self.logprobs or ()]


@dataclass(frozen=True, slots=True)
class OutputProcessor:
    """Makes rows of the files.

    Args:
        detokenizer: of the target's tokenizer.
        model: the target's name, for the OpenAI form.
        created: the run's Unix time, for the OpenAI form.
        include_prompt: whether result rows repeat their prompt.
        scored: whether texts are compared with the answers: not with those that a training set's rows bring along.
    """

    detokenizer: Detokenizer
    model: str
    created: int
    include_prompt: bool
    scored: bool = True

    def decoded(self, decoded: Decoded) -> ResultRow | ErrorRow:
        """The line of a row that the engine has ended."""
        row, completions = decoded.prepared.row, decoded.completions
        failed = next((one for one in completions if one.finish_reason == "error"), None)
        if failed is not None:
            return self.bad(row.refused(ErrorCode.DECODING, failed.error or ErrorCode.DECODING.meaning))
        prepared = decoded.prepared
        prompt = _Prompt(prepared.prompt_token_ids, completions[0].prompt_logprobs, prepared.in_reasoning)
        choices = [self._choice(row, completion, prompt) for completion in completions]
        first = choices[0]
        return ResultRow(
            id=row.id,
            index=row.index,
            fingerprint=row.fingerprint,
            text=first.text,
            finish_reason=first.finish_reason,
            reasoning=first.reasoning if len(choices) == 1 else None,
            tool_calls=first.tool_calls if len(choices) == 1 else None,
            generated=first.generated if len(choices) == 1 else None,
            logprobs=first.logprobs if len(choices) == 1 else None,
            prompt_logprobs=self._prompt_logprobs(row, prompt),
            choices=choices if len(choices) > 1 else None,
            usage=Usage(
                prompt_tokens=len(decoded.prepared.prompt_token_ids),
                completion_tokens=sum(choice.completion_tokens for choice in choices),
            ),
            speculation=_speculation(completions),
            prompt=(row.messages or row.prompt) if self.include_prompt else None,
            answer=row.answer,
            correct=self._is_correct(row, first),
            columns=row.columns,
            openai=self._openai(row),
        )

    def _is_correct(self, row: Row, choice: Choice) -> bool | None:
        if row.answer is None or not self.scored:
            return None
        text = choice.text[len(row.prompt or "") :] if row.decoding.echo else choice.text
        return text.strip() == row.answer.strip()

    def _choice(self, row: Row, completion: Completion, prompt: _Prompt) -> Choice:
        decoding, name = row.decoding, completion.request.id
        text = final_text(self.detokenizer, completion.token_ids, decoding.stop, decoding.min_tokens)
        split = decoding.reasoning == "split"
        answer = answer_in(text, row.chat, split=split, in_reasoning=prompt.in_reasoning, row_id=name)
        return Choice(
            id=name,
            text=f"{row.prompt}{answer.text}" if decoding.echo else answer.text,
            finish_reason="tool_calls"
            if answer.tool_calls and completion.finish_reason == "stop"
            else completion.finish_reason,
            completion_tokens=len(completion.token_ids),
            reasoning=answer.reasoning,
            tool_calls=answer.tool_calls,
            generated=text if decoding.echo else answer.generated,
            logprobs=self._logprobs(row, completion, prompt),
        )

    def _logprobs(self, row: Row, completion: Completion, prompt: _Prompt) -> dict[str, Any] | None:
        if completion.logprobs is None:
            return None
        if not row.decoding.echo:
            return _form(row)(self.detokenizer, completion.logprobs, None)
        before = prompt.of_each(row.decoding.top_logprobs)
        return _form(row)(self.detokenizer, [*before, *completion.logprobs], prompt.token_ids[0])

    def _prompt_logprobs(self, row: Row, prompt: _Prompt) -> dict[str, Any] | None:
        most = row.decoding.prompt_logprobs
        return None if most is None else _form(row)(self.detokenizer, prompt.of_each(most), prompt.token_ids[0])

    def bad(self, row: BadRow) -> ErrorRow:
        """The line of a row that cannot be decoded."""
        return ErrorRow(
            id=row.id,
            index=row.index,
            fingerprint=row.fingerprint,
            code=row.code,
            message=row.message,
            line=row.line_number,
            columns=row.columns,
            openai=self._openai(row),
        )

    def _openai(self, row: Row | BadRow) -> OpenAIForm | None:
        if row.endpoint is None:
            return None
        return OpenAIForm(model=self.model, created=self.created, endpoint=row.endpoint)


def _form(row: Row) -> Callable[[Detokenizer, Sequence[TokenLogprobs], int | None], dict[str, Any]]:
    return completion_logprobs if row.endpoint == "/v1/completions" else chat_logprobs


def _speculation(completions: Sequence[Completion]) -> Speculation | None:
    if not all(completion.counts_speculation for completion in completions):
        return None
    return Speculation(
        rounds=sum(one.rounds for one in completions),
        drafted=sum(one.drafted for one in completions),
        accepted=sum(one.accepted for one in completions),
    )
