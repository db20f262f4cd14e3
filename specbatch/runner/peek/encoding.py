"""What rows become on their way to the model, as far as that can be told here: tokens, or the messages alone where there is no tokenizer."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specbatch.api.job import Spec
from specbatch.api.models import TargetSpec
from specbatch.errors import ModelError, SpecbatchError
from specbatch.plan.shapes.model_dir import resolve_model_dir
from specbatch.runner.models.files import ModelFiles
from specbatch.runner.rows.row import Row

if TYPE_CHECKING:
    from specbatch.runner.rows.prompts import PromptEncoder

_TOKENIZER_FILES = ("tokenizer*", "*.jinja", "additional_chat_templates/*", "config.json", "chat_template.json")
_VOCABULARIES = ("vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model", "*.tiktoken")


@dataclass(frozen=True)
class Encoding:
    """Rows as the model sees them.

    Args:
        encoder: None where no tokenizer can be had.
        text: what is known of it, for people.
        target: the model that requests may name; None: any.
        system_prompt: of rows that have none of their own; an encoder has it already.
    """

    encoder: PromptEncoder | None
    text: str
    target: TargetSpec | None = None
    system_prompt: str | None = None

    def of(self, row: Row) -> tuple[str, list[int] | None]:
        """The prompt with its special tokens, and these tokens; without a tokenizer the messages as they are.

        Raises:
            RowError: the row would be refused.
        """
        if self.encoder is None:
            messages = row.messages or [{"role": "", "content": row.prompt}]
            if self.system_prompt is not None and messages[0]["role"] != "system":
                messages = [{"role": "system", "content": self.system_prompt}, *messages]
            return "\n".join(f"{one['role']}: {one['content']}".removeprefix(": ") for one in messages), None
        tokens = self.encoder.encode(row)
        return self.encoder.tokenizer.decode(tokens, skip_special_tokens=False), tokens


def make_encoding(spec: Spec, env: Mapping[str, str], say: Callable[[str], None] | None) -> Encoding:
    """The target's tokenizer and chat template, from its folder, the hub's cache, or the hub: the weights are not needed.

    Args:
        spec: of the job.
        env: for where the cache is.
        say: told of a download; None: nothing is downloaded, and no code of the model's own is run.

    Raises:
        SpecError: the chat template that the spec names is none.
    """
    target = spec.target
    try:
        files = _files(target, env, say)
        with _without_torch():
            from specbatch.runner.models.tokenizer import load_tokenizer  # noqa: PLC0415 - imports transformers

            logging.getLogger("transformers").setLevel(logging.ERROR)  # which warns of every row that is too long
            own_code = target.trust_remote_code and say is not None
            tokenizer = load_tokenizer(files.path, name=files.name, trust_remote_code=own_code)
    except ImportError:
        return _without("without transformers no tokens are counted: pip install 'specbatch[runner]'", spec)
    except SpecbatchError as error:
        return _without(f"no tokenizer, so no tokens are counted: {error.message}", spec)
    from specbatch.runner.rows.prompts import PromptEncoder  # noqa: PLC0415 - imports transformers
    from specbatch.runner.rows.templates import choose_template  # noqa: PLC0415 - as above

    dataset = spec.dataset
    template = choose_template(dataset, tokenizer)
    positions = files.max_positions or spec.batching.max_length
    encoder = PromptEncoder(
        tokenizer,
        template=None if template is None else template.text,
        system_prompt=dataset.system_prompt,
        enable_thinking=dataset.enable_thinking,
        max_length=min(spec.batching.max_length, positions),
        embedded=files.vocab_size,
    )
    return Encoding(encoder, _text(spec, None if template is None else template.file), target)


def _without(why: str, spec: Spec) -> Encoding:
    return Encoding(None, why, spec.target, spec.dataset.system_prompt)


def _text(spec: Spec, file: Path | None) -> str:
    setting = spec.dataset.chat_template
    if setting == "none":
        return "none: prompts go in as they are"
    if file is not None:
        return str(file)
    return f"{spec.target.model}'s own" + ("" if setting == "auto" else f", named {setting}")


def _files(target: TargetSpec, env: Mapping[str, str], say: Callable[[str], None] | None) -> ModelFiles:
    path = resolve_model_dir(target.model, target.revision, env)
    if path is None:
        if say is None:
            raise ModelError("it is not here", where=target.model)
        say(f"downloading the tokenizer of {target.model} from the hub")
        path = _download(target)
    return ModelFiles(target.model, path, None, target.trust_remote_code)


def _download(target: TargetSpec) -> Path:
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - only where something must be downloaded

        code = ["*.py"] if target.trust_remote_code else []
        patterns = [*_TOKENIZER_FILES, *_VOCABULARIES, *code]
        return Path(snapshot_download(target.model, revision=target.revision, allow_patterns=patterns))
    except ImportError:
        raise
    except Exception as error:  # the hub's client raises dozens of kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"the hub gave none ({reason})", where=target.model) from error


def no_encoding(text: str) -> Encoding:
    """Rows as they are, without a model."""
    return Encoding(None, text)


@contextmanager
def _without_torch() -> Iterator[None]:
    """transformers looks for torch when it is imported, which takes seconds and is of no use for a tokenizer."""
    hides = "torch" not in sys.modules and "transformers" not in sys.modules
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that torch was not found
    if hides:
        sys.modules["torch"] = None  # type: ignore[assignment]  # as Python marks a module that cannot be imported
    try:
        yield
    finally:
        if hides:
            del sys.modules["torch"]
