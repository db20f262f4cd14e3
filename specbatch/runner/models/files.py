"""Resolves a model of the spec to files on this machine, and checks that they may be loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbatch.api.models import DrafterSpec, TargetSpec
from specbatch.eagle3 import is_eagle3
from specbatch.errors import ModelError
from specbatch.mtp import MIMO
from specbatch.plan.shapes.gguf_header import config_from_gguf
from specbatch.plan.shapes.hf_config import max_positions
from specbatch.plan.shapes.hub_model import HubModel
from specbatch.plan.shapes.model_dir import resolve_model_dir
from specbatch.plan.shapes.weight_files import check_weight_files, is_complete, json_object
from specbatch.runner.hub.fetch import fetch_model
from specbatch.runner.hub.progress import Progress
from specbatch.runner.models.content import text_files, weights_hash
from specbatch.runner.retry import START_SECONDS

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model that is here.

    Attributes:
        name: as the spec says it.
        path: a folder with safetensors, or a .gguf file.
        revision: the commit of a hub snapshot; None for files of one's own.
        code: whether Python code that comes with it may run.
    """

    name: str
    path: Path
    revision: str | None
    code: bool = False

    @property
    def identity(self) -> str:
        """`name@revision`, for the results' identity; local files are identified by a hash of their ends and sizes."""
        return f"{self.name}@{self.revision or weights_hash(self.path)}"

    def text_files_of(self, role: str) -> dict[str, str]:
        """role/name -> hash of the files beside the weights that decide on text, also of a hub snapshot: people change them.

        Of a drafter that is its config alone: it writes no prompt.
        """
        found = text_files(self.path, code=self.code)
        return {f"{role}/{name}": digest for name, digest in found.items() if role == "target" or name == "config.json"}

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside the weights (a GGUF file always holds one)."""
        return self.path.is_file() or any((self.path / name).is_file() for name in _TOKENIZER_FILES)

    @property
    def max_positions(self) -> int | None:
        """The tokens of a row that the model was made for; None where its config does not say."""
        return max_positions(self._config)

    @property
    def vocab_size(self) -> int | None:
        """Tokens that it has embeddings for, padding included; None where its config does not say."""
        inner = self._config.get("text_config")
        value = self._config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, dict) else None)
        return value if type(value) is int and value > 0 else None

    @property
    def is_eagle3(self) -> bool:
        """Whether it is an EAGLE-3 head."""
        return is_eagle3(self._config)

    @property
    def _config(self) -> dict[str, Any]:
        return config_from_gguf(self.path) if self.path.is_file() else json_object(self.path / "config.json")


def find_model(
    asked: TargetSpec | DrafterSpec, role: str, *, env: Mapping[str, str], say: Callable[[str], None] = lambda _: None
) -> ModelFiles:
    """Finds a model on this machine, or downloads it from the hub.

    Args:
        asked: spec.target, or spec.drafter where that is a model.
        role: which of the two.
        env: environment variables.
        say: shows a line when a download begins.

    Raises:
        ModelError: not there, not permitted, pickled weights, or code of its own that the spec does not trust.
        OutOfReachError: the hub could not be reached.
        ResultsError: its files cannot be written.
    """
    assert asked.model is not None
    path = resolve_model_dir(asked.model, asked.revision, env)
    if path is None or (_is_snapshot(path) and not is_complete(path)):
        beside = Path(asked.model).parent  # of models/qwen: a folder may have been meant
        missing = f", since {beside.absolute()} holds no such folder" if "/" in asked.model and beside.is_dir() else ""
        say(f"downloading {asked.model} from the hub{missing}")
        wanted = HubModel(asked.model, asked.revision, code=asked.trust_remote_code)
        where = f"spec.{role}.model {asked.model}"
        path = fetch_model(wanted, progress=Progress(say), where=where, seconds=START_SECONDS).path
    check_weight_files(path, asked.model)
    if not asked.trust_remote_code:
        _refuse_remote_code(path, asked.model, role)
    return ModelFiles(asked.model, path, path.name if _is_snapshot(path) else None, asked.trust_remote_code)


def _is_snapshot(path: Path) -> bool:
    return path.parent.name == "snapshots"


def _refuse_remote_code(path: Path, model: str, role: str) -> None:
    config = json_object(path / "config.json")
    if not config.get("auto_map") or is_eagle3(config) or config.get("model_type") == MIMO:  # whose code is not run
        return
    from transformers import CONFIG_MAPPING  # noqa: PLC0415 - only for the few models with code of their own

    if config.get("model_type") in CONFIG_MAPPING:
        return
    raise ModelError(
        f"the model brings Python code of its own (auto_map) for model_type {config.get('model_type')!r}",
        where=model,
        remedy=f"read that code; if you trust it, pin spec.{role}.revision and set trustRemoteCode: true there",
    )
