"""Loads the tokenizer, and turns tokens back into text the same way everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tokenizers import decoders
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from specbatch.errors import ModelError

_REASON_CHARS = 500  # tokens of a damaged vocabulary may be shown in it


def load_tokenizer(path: Path, *, name: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or a GGUF file.

    Raises:
        ModelError: there is none, or it cannot be loaded.
    """
    folder, options = (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (path, {})
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True, **options
        )
    except Exception as error:  # transformers raises a dozen kinds here
        reason = (str(error).strip() or "no reason given").splitlines()[0][:_REASON_CHARS]
        raise ModelError(
            f"the tokenizer cannot be loaded: {reason} ({type(error).__name__})",
            where=name,
            remedy="the folder must hold tokenizer.json (or another tokenizer file) beside the weights",
        ) from error
    if tokenizer.chat_template is None and path.is_dir():
        tokenizer.chat_template = _template_of_processor(path / "chat_template.json", name)
    if not _is_template(tokenizer.chat_template):
        raise ModelError(
            f"the tokenizer's chat_template is {str(tokenizer.chat_template)[:60]!r}: neither text nor named texts",
            where=name,
            remedy="mend tokenizer_config.json, or put a chat_template.jinja beside it",
        )
    return tokenizer


def _is_template(found: object) -> bool:
    named = found if isinstance(found, dict) else {"": found}
    return found is None or all(isinstance(one, str) for pair in named.items() for one in pair)


def _template_of_processor(file: Path, name: str) -> str | dict[str, str] | None:
    """The template that models for text and images keep in a file of their own, which transformers reads for processors only."""
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["chat_template"]
        if isinstance(found, list):
            found = {one["name"]: one["template"] for one in found}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{file.name} holds no chat template ({type(error).__name__}: {error})",
            where=name,
            remedy="download the file again, or name a template in dataset.chatTemplate",
        ) from error
    return cast("str | dict[str, str]", found)


class Detokenizer:
    """Tokens to text, special tokens left out, nothing cleaned up."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)  # skips a layer of Python
        self.special_ids = frozenset(tokenizer.all_special_ids)
        decoder = getattr(self._backend, "decoder", None)
        self.is_byte_level = isinstance(decoder, decoders.ByteLevel)
        self._vocab = tokenizer.get_vocab()

    def __call__(self, token_ids: Sequence[int]) -> str:
        """The text of the tokens; bytes that are no UTF-8 (yet) come as U+FFFD."""
        if self._backend is not None:
            return str(self._backend.decode(list(token_ids), skip_special_tokens=True))
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def token(self, token_id: int) -> str:
        """One token as people read it, special ones by their name."""
        text = self._tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    def special_id(self, text: str) -> int | None:
        """The id of the special token that is written like this, or None."""
        token_id = self._vocab.get(text)
        return token_id if token_id in self.special_ids else None
