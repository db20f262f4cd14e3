"""Structured output: grammars compiled once with llguidance, and where each row stands in its own (engine.grammar.Grammar)."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Collection, Sequence
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specbatch.api.structured import StructuredOutput
from specbatch.engine.logits.grammar import Grammar, mask_words
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.environment import available_cores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSTALL = "pip install 'specbatch[grammar]'"
_KEPT = 1000  # compiled grammars
_LONGEST_REASON = 300
_MOST_THREADS = 8
_ALONE = 4  # masks that are made before other threads are awake
_ALONE_SECONDS = 0.001
_PROBE = 'a {"b": "c\n\t d"} \u00e9 \u6f22 \U0001f642'  # a text of spaces, breaks and characters of two to four bytes
WHITESPACE = r"( |\n {0,8})?"  # between the parts of JSON: as people write it, but never without end


class RowGrammar(Grammar):
    """See engine.grammar.Grammar. Tokens of the row are taken in when the next mask is asked for: while the device is at work.

    Args:
        matcher: llguidance's, at the row's beginning.
        words: of its masks.
        ends: tokens that end a text.
        asked: that it was compiled from, for an engine that compiles it itself.
    """

    def __init__(self, matcher: Any, words: int, ends: frozenset[int], asked: StructuredOutput) -> None:
        self.ends = ends
        self.asked = asked
        self.matcher = matcher
        self.words = words
        self._ahead: list[int] = []  # drafts that the matcher has taken in
        self._tokens: list[int] = []  # of the row, which it has not
        self._behind = False  # it must forget drafts, or take in tokens

    def __copy__(self) -> RowGrammar:
        self.catch_up()
        return RowGrammar(self.matcher.deep_copy(), self.words, self.ends, self.asked)

    def fill(self, mask: Tensor) -> None:
        """Sets the bits of the tokens that may come next; none where the matcher has failed."""
        self.fill_rows([(self, 0)], mask[None])

    @classmethod
    def fill_rows(cls, grammars: Sequence[tuple[RowGrammar, int]], masks: Tensor) -> None:
        """As fill, one after the other, since most masks take microseconds; with all cores at work once that has taken a while."""
        words = grammars[0][0].words
        made = masks if masks.shape[1] == words else torch.zeros(len(masks), words, dtype=torch.int32)
        for grammar, _ in grammars:
            grammar.catch_up()
        asked = [(grammar.matcher, row) for grammar, row in grammars if not grammar.matcher.is_error()]
        memory, size, until = made.data_ptr(), 4 * words, time.perf_counter() + _ALONE_SECONDS
        for done, (matcher, row) in enumerate(asked, 1):
            matcher.unsafe_compute_mask_ptr(memory + row * size, size)
            if len(asked) - done > _ALONE and time.perf_counter() > until:
                _executor().unsafe_compute_mask_ptr(asked[done:], memory, size, len(made))
                break
        for grammar, row in grammars:
            failed = grammar.matcher.is_error()
            if made is not masks or failed:
                both = 0 if failed else min(words, masks.shape[1])
                masks[row, :both], masks[row, both:] = made[row, :both], 0
            if failed and not grammar.error:
                grammar.error = _short(grammar.matcher.get_error())

    def look_ahead(self, token: int) -> bool:
        """Takes in a draft; not an end of the text: what stands behind it is not kept."""
        if token in self.ends or self.matcher.is_stopped() or self.matcher.try_consume_tokens([token]) != 1:
            return False
        self._ahead.append(token)
        return True

    def back(self) -> None:
        """Forgets the drafts."""
        self._behind = True

    def commit(self, tokens: Sequence[int]) -> None:
        """Takes in tokens of the row."""
        self._behind = True
        self._tokens += tokens

    def forced(self, most: int) -> list[int]:
        """What the matcher's mask allows alone, token by token, and the end where nothing else is left; the matcher stays where it is."""
        self.catch_up()
        matcher, found, taken = self.matcher, list[int](), 0
        while not matcher.is_error() and len(found) < most:
            if matcher.is_stopped():
                if len(self.ends) == 1 and matcher.is_accepting():
                    found += self.ends
                break
            more = matcher.compute_ff_tokens()
            found += more
            if not more or len(found) >= most:
                break
            taken += matcher.try_consume_tokens(more)
        if taken:
            matcher.rollback(taken)
        return found[:most]

    def catch_up(self) -> None:
        """Drafts that have become the row's tokens stay where they are, the others are taken back."""
        if not self._behind:
            return
        ahead, tokens = self._ahead, self._tokens
        self._ahead, self._tokens, self._behind = [], [], False
        pairs = enumerate(zip(ahead, tokens, strict=False))
        same = next((i for i, (draft, token) in pairs if draft != token), min(len(ahead), len(tokens)))
        if same < len(ahead):
            self.matcher.rollback(len(ahead) - same)
        new = tokens[same:]
        taken = self.matcher.try_consume_tokens(new) if new else 0
        if taken < len(new) and not self.error:
            reason = self.matcher.get_error() if self.matcher.is_error() else ""  # a limit of llguidance's
            self.error = _short(reason) or f"token {new[taken]} may not stand where it does"


@cache
def _executor() -> Any:
    """Threads that make masks: to wake many takes longer than a mask, and a container may have fewer cores than it sees."""
    from llguidance import LLExecutor  # noqa: PLC0415 - an extra

    return LLExecutor(min(_MOST_THREADS, available_cores()))


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
        return RowGrammar(matcher.deep_copy(), mask_words(self._vocab_size), self._ends, asked)

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
        """The target's tokens as llguidance knows them, which must be the same bytes as the tokenizer's."""
        from llguidance import LLTokenizer  # noqa: PLC0415 - an extra

        reason = ""
        try:
            vocabulary = LLTokenizer(described(self._tokenizer), n_vocab=self._vocab_size, eos_token=sorted(self._ends))
            ids = self._tokenizer.encode(_PROBE, add_special_tokens=False)
            meant = self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            if (found := vocabulary.decode_str(ids)).strip() != meant.strip():
                reason = f"it reads {meant!r} as {found!r}"
        except Exception as error:  # noqa: BLE001 - tokenizers without a fast form, in several ways
            reason = str(error)
        if reason:
            message = f"structured output: the target's tokenizer is of a kind that llguidance does not read ({_short(reason)})"
            raise RowError(ErrorCode.UNSUPPORTED_OPTION, message)
        return vocabulary


def described(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer as JSON for llguidance, with the byte-level decoder that goes with its pre-tokenizer: one made from a GGUF has it behind others, and llguidance would take Ġ for a letter."""
    found: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    found["truncation"] = found["padding"] = None
    if "ByteLevel" in _kinds(found["pre_tokenizer"]) & _kinds(found["decoder"]):
        found["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return json.dumps(found)


def _kinds(part: dict[str, Any] | None) -> set[str]:
    """Of a tokenizer's pre-tokenizer or decoder, and of those that it is a sequence of."""
    if part is None:
        return set()
    return {part["type"]}.union(*map(_kinds, part.get("pretokenizers", part.get("decoders", ()))))


_NAMES = {"json_schema": "JSON schema", "regex": "regular expression", "choice": "choice", "grammar": "grammar"}


def is_installed() -> bool:
    """Whether llguidance is there."""
    return importlib.util.find_spec("llguidance") is not None


def _source(kind: str, value: Any) -> str:
    """What llguidance compiles."""
    from llguidance import LLMatcher, grammar_from  # noqa: PLC0415 - an extra

    if kind == "json_schema":
        return str(LLMatcher.grammar_from_json_schema(value, {"whitespace_pattern": WHITESPACE}))
    if kind == "regex":
        return str(LLMatcher.grammar_from_regex(value))
    if kind == "choice":
        return str(grammar_from("choice", value))
    return str(grammar_from("grammar", value))


def _short(text: str) -> str:
    line = " ".join(text.partition("<state>")[0].split())  # behind it, what llguidance's authors would want to know
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 3]}..."
