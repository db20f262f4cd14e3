"""Turns a finished or refused row into its line in the results or the errors file."""

from __future__ import annotations

from dataclasses import dataclass

from specbatch.engine.request import Completion
from specbatch.results.rows import ErrorCode, ErrorRow, OpenAIForm, ResultRow, Speculation, Usage
from specbatch.runner.models.stop_strings import final_text
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.replicas import Decoded
from specbatch.runner.rows.row import BadRow, Row


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
        row, completion = decoded.prepared.row, decoded.completion
        if completion.finish_reason == "error":
            return self.bad(row.refused(ErrorCode.DECODING, completion.error or ErrorCode.DECODING.meaning))
        text = final_text(self.detokenizer, completion.token_ids, row.decoding.stop, row.decoding.min_tokens)
        return ResultRow(
            id=row.id,
            index=row.index,
            fingerprint=row.fingerprint,
            text=text,
            finish_reason=completion.finish_reason,
            usage=Usage(
                prompt_tokens=len(decoded.prepared.prompt_token_ids), completion_tokens=len(completion.token_ids)
            ),
            speculation=_speculation(completion),
            prompt=(row.messages or row.prompt) if self.include_prompt else None,
            answer=row.answer,
            correct=None if row.answer is None or not self.scored else text.strip() == row.answer.strip(),
            columns=row.columns,
            openai=self._openai(row),
        )

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


def _speculation(completion: Completion) -> Speculation | None:
    if not completion.counts_speculation:
        return None
    return Speculation(rounds=completion.rounds, drafted=completion.drafted, accepted=completion.accepted)
