"""Makes the target's prompt tokens of a row: chat template, system prompt, thinking, special tokens once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from specbatch.engine.logits.options import LogitsOptions
from specbatch.errors import Problem, SpecError
from specbatch.results.rows import ErrorCode
from specbatch.runner.chat.answer import ends_in_reasoning
from specbatch.runner.chat.options import ChatOptions
from specbatch.runner.dataset.bad_rows import RowError, shown
from specbatch.runner.rows.messages import Message
from specbatch.runner.rows.row import Row
from specbatch.runner.rows.token_lengths import TokenLengths, token_lengths
from specbatch.runner.rows.token_options import logits_options

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specbatch.runner.rows.grammars import GrammarCompiler, RowGrammar

_LONG_TEXT = 1 << 16  # characters: a shorter one is tokenised in no time
_LONGEST_REASON = 300
_LONGEST_TOKEN = 256  # characters of a control token


class Prompt(NamedTuple):
    """A row's prompt as the model sees it: its tokens, and whether they end within reasoning, which the text goes on with."""

    token_ids: list[int]
    in_reasoning: bool = False


@dataclass(frozen=True)
class PromptEncoder:
    """Makes prompt tokens.

    Args:
        tokenizer: the target's.
        template: a Jinja chat template, or None: prompts go in as they stand.
        system_prompt: put before messages that have none of their own.
        enable_thinking: handed to the template; None leaves it to the template.
        max_length: prompt and new tokens together.
        instant: the time that a template sees, whenever and wherever the row is rendered; None: the present.
        ends: tokens that end the target's texts.
        embedded: tokens that the target has embeddings for: some tokenizers have more; None where that is not known.

    Raises:
        SpecError: a system prompt without a template to put it in.
    """

    tokenizer: PreTrainedTokenizerBase
    _: KW_ONLY
    template: str | None
    max_length: int
    system_prompt: str | None = None
    enable_thinking: bool | None = None
    instant: datetime | None = None
    ends: tuple[int, ...] = ()
    embedded: int | None = None

    def __post_init__(self) -> None:
        if self.system_prompt is not None and self.template is None:
            problem = Problem(
                "spec.dataset.systemPrompt", "needs a chat template, and there is none", "set spec.dataset.chatTemplate"
            )
            raise SpecError([problem], source="spec")

    def encode(self, row: Row) -> list[int]:
        """The prompt's token ids, at least one; errors as of `prompt`."""
        return self.prompt(row).token_ids

    def prompt(self, row: Row) -> Prompt:
        """The row's prompt.

        Raises:
            RowError: the template refuses, the tokenizer fails, no tokens, or too many.
        """
        text = self._text(row)
        return Prompt(self._token_ids(row, text), self._in_reasoning(row, text))

    def _in_reasoning(self, row: Row, text: str) -> bool:
        """Only where it is to stand apart. A form that the text is held to begins with it: there is no reasoning before."""
        if row.decoding.reasoning != "split" or row.decoding.structured_output is not None:
            return False
        given = row.messages is not None and row.messages[-1]["role"] == "assistant"
        begins = not given and not self._is_raw(row)
        return ends_in_reasoning(text, self._control_tokens, begins_turn=begins)

    def _is_raw(self, row: Row) -> bool:
        return row.messages is None and (row.raw or self.template is None)

    def _token_ids(self, row: Row, text: str) -> list[int]:
        if len(text) > _LONG_TEXT:
            self._refuse_long(text, row.decoding.max_new_tokens)
        raw = self._is_raw(row)
        if row.decoding.echo and not raw:
            message = "echo: the prompt is not as the row has it, a chat template is around it: leave it out, and ask for prompt_logprobs"
            raise RowError(ErrorCode.UNSUPPORTED_OPTION, message)
        token_ids = self._tokenize(text, raw=raw)
        if not token_ids:
            raise RowError(ErrorCode.EMPTY_PROMPT, "the prompt has no tokens")
        if self.embedded is not None and max(token_ids) >= self.embedded:
            self._refuse_unknown(max(token_ids))
        needed = len(token_ids) + row.decoding.max_new_tokens
        if needed > self.max_length:
            raise RowError(
                ErrorCode.PROMPT_TOO_LONG,
                f"{len(token_ids)} prompt tokens + {row.decoding.max_new_tokens} new tokens = {needed}, "
                f"but a row may have {self.max_length}",
            )
        return token_ids

    def logits_options(self, row: Row) -> LogitsOptions:
        """What the row asks of its logits.

        Raises:
            RowError: of tokens that there are not.
        """
        return logits_options(row.decoding, self.tokenizer, self.embedded or len(self.tokenizer))

    def grammar(self, row: Row) -> RowGrammar | None:
        """That the row's text is held to, at its beginning.

        Raises:
            RowError: there can be none such.
        """
        asked = row.decoding.structured_output
        return None if asked is None else self._grammars.grammar(asked)

    @cached_property
    def _grammars(self) -> GrammarCompiler:
        from specbatch.runner.rows.grammars import GrammarCompiler  # noqa: PLC0415 - it needs torch

        return GrammarCompiler(self.tokenizer, self.embedded or len(self.tokenizer), self.ends)

    def _refuse_unknown(self, token_id: int) -> None:
        token = self.tokenizer.decode([token_id])
        raise RowError(
            ErrorCode.TOKENIZATION,
            f"token {token_id} of the prompt ({token!r}) is of the tokenizer alone: the target has embeddings for {self.embedded} tokens; "
            "take it out, or resize the target's embeddings",
        )

    def _refuse_long(self, text: str, new_tokens: int) -> None:
        """Refuses what cannot fit before it is tokenised, which takes memory of 200 times the text."""
        lengths = self._lengths
        least = lengths.least_tokens(text) if lengths else 0
        if least + new_tokens > self.max_length:
            raise RowError(
                ErrorCode.PROMPT_TOO_LONG,
                f"a prompt of {len(text)} characters, which are at least {least} tokens, + {new_tokens} new tokens, "
                f"but a row may have {self.max_length}",
            )

    @cached_property
    def _lengths(self) -> TokenLengths | None:
        return token_lengths(self.tokenizer)

    def _text(self, row: Row) -> str:
        if row.messages is None:
            assert row.prompt is not None
            if row.raw and self.system_prompt is not None:
                message = "dataset.systemPrompt has no place in a completion, which has no messages: ask for /v1/chat/completions"
                raise RowError(ErrorCode.UNSUPPORTED_REQUEST, message)
            if row.raw or self.template is None:
                if row.chat.values:
                    message = f"{', '.join(row.chat.values)}: of a chat, and there is no chat template"
                    raise RowError(ErrorCode.UNSUPPORTED_OPTION, message)
                if row.enable_thinking is not None:
                    message = "enable_thinking needs a chat template, and there is none: take it out, or set spec.dataset.chatTemplate"
                    raise RowError(ErrorCode.UNSUPPORTED_OPTION, message)
                return row.prompt
            self._refuse_wrapped(row.prompt)
        messages = row.messages or [{"role": "user", "content": row.prompt}]
        if self.system_prompt is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system_prompt}, *messages]
        thinking = self.enable_thinking if row.enable_thinking is None else row.enable_thinking
        return self._render(messages, row.chat, {} if thinking is None else {"enable_thinking": thinking})

    def _refuse_wrapped(self, prompt: str) -> None:
        """A prompt that a chat template has wrapped already would be wrapped again, and answered as something else."""
        start = prompt.lstrip()[:_LONGEST_TOKEN]
        for token in self._control_tokens:
            if start.startswith(token) and token in (self.template or ""):
                raise RowError(
                    ErrorCode.CHAT_TEMPLATE,
                    f"the prompt begins with {shown(token)}, as what a chat template makes, and would get the template a second time; "
                    "set dataset.chatTemplate: none, or give messages",
                )

    @cached_property
    def _control_tokens(self) -> list[str]:
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        return [str(token) for token in added.values() if token.special and str(token)]

    def _render(self, messages: Sequence[Message], chat: ChatOptions, options: dict[str, Any]) -> str:
        if self.template is None:
            raise RowError(ErrorCode.CHAT_TEMPLATE, "messages need a chat template, and the tokenizer has none")
        if self.instant is not None:
            options = {**options, "strftime_now": self.instant.strftime}  # before transformers' own of that name
        if chat.tools and "tools" not in self.template:
            raise RowError(
                ErrorCode.CHAT_TEMPLATE, "the chat template has no place for tools: the target would not see them"
            )
        continues = messages[-1]["role"] == "assistant"  # a beginning of the answer
        if chat.continues and not continues:
            raise RowError(ErrorCode.INVALID_FIELD, "continue_final_message: the last message is not the assistant's")
        begins = not continues and chat.generation_prompt is not False
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(messages),
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=begins,
                continue_final_message=continues,
                tools=list(chat.tools) or None,
                **{**chat.kwargs, **options},
            )
        except Exception as error:  # noqa: BLE001 - a template is a program: it may raise anything
            raise RowError(
                ErrorCode.CHAT_TEMPLATE, f"the chat template refused the messages: {_short(error)}"
            ) from None
        return text

    def _tokenize(self, text: str, *, raw: bool) -> list[int]:
        """A template writes the special tokens itself, and so may a raw prompt: they are not added a second time."""
        bos = self.tokenizer.bos_token
        try:
            encoded = self.tokenizer(text, add_special_tokens=raw and not (bos and text.startswith(bos)))
        except Exception as error:  # noqa: BLE001 - the backend raises bare exceptions
            raise RowError(ErrorCode.TOKENIZATION, f"the tokenizer failed: {_short(error)}") from None
        return list(encoded["input_ids"])


def _short(error: Exception) -> str:
    """What a template or the tokenizer says, which may hold the whole prompt."""
    text = str(error)
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."
