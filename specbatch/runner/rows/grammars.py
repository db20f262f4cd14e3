"""Structured output: grammars compiled once with llguidance, and where each row stands in its own (engine.grammar.Grammar)."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specbatch.api.structured import StructuredOutput
from specbatch.engine.grammar import mask_words
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSTALL = "pip install 'specbatch[grammar]'"
_KEPT = 1000  # compiled grammars
_LONGEST_REASON = 300
_WHITESPACE = r"( |\n {0,8})?"  # between the parts of JSON: as people write it, but never without end


class RowGrammar:
    """See engine.grammar.Grammar.

    Args:
        matcher: llguidance's, at the row's beginning.
        words: of its masks.
        ends: tokens that end a text.
    """

    def __init__(self, matcher: Any, words: int, ends: frozenset[int]) -> None:
        self._matcher = matcher
        self._buffer = torch.zeros(words, dtype=torch.int32)
        self._ahead = 0
        self.ends = ends
        self.error = ""

    def __copy__(self) -> RowGrammar:
        return RowGrammar(self._matcher.deep_copy(), len(self._buffer), self.ends)

    def fill(self, mask: Tensor) -> None:
        """Sets the bits of the tokens that may come next; none where the matcher has failed."""
        mask.zero_()
        self._buffer.zero_()
        if not self._matcher.is_error():
            self._matcher.unsafe_compute_mask_ptr(self._buffer.data_ptr(), self._buffer.nbytes)
        if self._matcher.is_error():
            self.error = _short(self._matcher.get_error())
            return
        words = min(len(mask), len(self._buffer))
        mask[:words] = self._buffer[:words]

    def look_ahead(self, token: int) -> bool:
        """Takes in a draft; not an end of the text: what stands behind it is not kept."""
        if token in self.ends or self._matcher.is_stopped() or self._matcher.try_consume_tokens([token]) != 1:
            return False
        self._ahead += 1
        return True

    def back(self) -> None:
        """Forgets the drafts."""
        if self._ahead:
            self._matcher.rollback(self._ahead)
            self._ahead = 0

    def commit(self, tokens: Sequence[int]) -> None:
        """Takes in tokens of the row."""
        self.back()
        taken = self._matcher.try_consume_tokens(list(tokens))
        if taken < len(tokens) and not self.error:
            self.error = f"token {tokens[taken]} may not stand where it does"


class GrammarCompiler:
    """Makes rows' grammars over one vocabulary; equal ones are compiled once.

    Args:
        tokenizer: the target's.
        vocab_size: tokens that the target knows.
        ends: tokens that end a text; the tokenizer's where the model names none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, ends: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        own = getattr(tokenizer, "eos_token_id", None)
        self._ends = frozenset(ends) or frozenset([] if own is None else [own])
        self._compiled = lru_cache(maxsize=_KEPT)(self._compile)

    def grammar(self, asked: StructuredOutput) -> RowGrammar:
        """A row's, at its beginning.

        Raises:
            RowError: llguidance is not installed, or cannot have the schema, expression or grammar.
        """
        matcher = self._compiled(asked.model_dump_json(exclude_none=True))
        return RowGrammar(matcher.deep_copy(), mask_words(self._vocab_size), self._ends)

    def _compile(self, asked: str) -> Any:
        if not is_installed():
            message = f"structured output needs llguidance: {INSTALL}"
            raise RowError(ErrorCode.UNSUPPORTED_OPTION, message)
        from llguidance import LLMatcher  # noqa: PLC0415 - an extra

        kind, value = next(iter(json.loads(asked).items()))
        try:
            text = _source(kind, value)
            reason = LLMatcher.validate_grammar(text, self._vocabulary)
            matcher = None if reason else LLMatcher(self._vocabulary, text)
            reason = reason or (matcher.get_error() if matcher is not None and matcher.is_error() else "")
        except (ValueError, TypeError, RuntimeError) as error:
            reason = str(error)
        if reason:
            raise RowError(
                ErrorCode.INVALID_FIELD, f"structured output: the {_NAMES[kind]} cannot be had: {_short(reason)}"
            )
        return matcher

    @cached_property
    def _vocabulary(self) -> Any:
        from llguidance.hf import from_tokenizer  # noqa: PLC0415 - an extra

        try:
            return from_tokenizer(self._tokenizer, n_vocab=self._vocab_size, eos_token=sorted(self._ends))
        except Exception as error:  # noqa: BLE001 - tokenizers without a fast form, in several ways
            message = f"structured output: the target's tokenizer is of a kind that llguidance does not read ({_short(str(error))})"
            raise RowError(ErrorCode.UNSUPPORTED_OPTION, message) from None


_NAMES = {"json_schema": "JSON schema", "regex": "regular expression", "choice": "choice", "grammar": "grammar"}


def is_installed() -> bool:
    """Whether llguidance is there."""
    return importlib.util.find_spec("llguidance") is not None


def _source(kind: str, value: Any) -> str:
    """What llguidance compiles."""
    from llguidance import LLMatcher, grammar_from  # noqa: PLC0415 - an extra

    if kind == "json_schema":
        return str(LLMatcher.grammar_from_json_schema(value, {"whitespace_pattern": _WHITESPACE}))
    if kind == "regex":
        return str(LLMatcher.grammar_from_regex(value))
    if kind == "choice":
        return str(grammar_from("choice", value))
    return str(grammar_from("grammar", value))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 3]}..."
