"""Resolves a model of the spec to files on this machine, and checks that they may be loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbatch.api.models import DrafterSpec, TargetSpec
from specbatch.errors import ModelError, OutOfReachError
from specbatch.plan.gguf_header import config_from_gguf
from specbatch.plan.hf_config import max_positions
from specbatch.plan.model_dir import resolve_model_dir
from specbatch.plan.weight_files import check_weight_files, is_complete, json_object
from specbatch.runner.models.content import text_files, weights_hash
from specbatch.runner.retry import START_SECONDS, Retrier
from specbatch.runner.transient_errors import answer_of, cause_of

_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken")
_ANSWER_SECONDS = 8.0  # of the hub
_UNKNOWN = {401, 403, 404}  # the hub says neither what is private nor to whom
_TIMES = ("connect", "read", "write", "pool")
_IN_THE_CACHE = "without network access the model must be in the hub cache (hf download, HF_HOME) or in a local folder"
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
    """
    assert asked.model is not None
    path = resolve_model_dir(asked.model, asked.revision, env)
    if path is None or (_is_snapshot(path) and not is_complete(path)):
        say(f"downloading {asked.model} from the hub")
        path = _download(asked.model, asked, f"spec.{role}.model {asked.model}", say)
    check_weight_files(path, asked.model)
    if not asked.trust_remote_code:
        _refuse_remote_code(path, asked.model, role)
    return ModelFiles(asked.model, path, path.name if _is_snapshot(path) else None, asked.trust_remote_code)


def _is_snapshot(path: Path) -> bool:
    return path.parent.name == "snapshots"


def _download(model: str, asked: TargetSpec | DrafterSpec, where: str, say: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only where something must be downloaded

    wanted = [*_WANTED, "*.py"] if asked.trust_remote_code else list(_WANTED)

    def download() -> Path:
        _bound_silence()
        return Path(snapshot_download(model, revision=asked.revision, allow_patterns=wanted))

    try:  # what is here of an interrupted download is not fetched again
        return Retrier(START_SECONDS, say=say).call(download, where=where)
    except OutOfReachError as error:
        error.remedy = f"{error.remedy}; {_IN_THE_CACHE}"
        raise
    except Exception as error:  # the hub raises a dozen kinds, and requests' or httpx's own
        name = type(error).__name__
        reason = (str(error).strip() or name).splitlines()[0]
        raise ModelError(
            f"{reason} ({name})", where=where, remedy=_remedy(name, answer_of(cause_of(error))[0])
        ) from error


def _remedy(error_name: str, status: int | None) -> str:
    if error_name == "GatedRepoError":
        return "accept the model's licence on the hub, and set HF_TOKEN to a token of that account"
    if status in _UNKNOWN or error_name in {"RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"}:
        return "check the name and the revision; for a private model set HF_TOKEN; a folder must exist on this machine"
    return _IN_THE_CACHE


def _bound_silence() -> None:
    """The hub's client waits for ever by default: a request without a time limit gets one. It makes a new client now and then."""
    from huggingface_hub import get_session  # noqa: PLC0415 - only where something must be downloaded

    client = get_session()
    if _limit not in client.event_hooks["request"]:
        client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], _limit]}


def _limit(request: Any) -> None:
    times = request.extensions.get("timeout") or {}
    if all(seconds is None for seconds in times.values()):
        request.extensions = {**request.extensions, "timeout": dict.fromkeys(_TIMES, _ANSWER_SECONDS)}


def _refuse_remote_code(path: Path, model: str, role: str) -> None:
    config = json_object(path / "config.json")
    if not config.get("auto_map"):
        return
    from transformers import CONFIG_MAPPING  # noqa: PLC0415 - only for the few models with code of their own

    if config.get("model_type") in CONFIG_MAPPING:
        return
    raise ModelError(
        f"the model brings Python code of its own (auto_map) for model_type {config.get('model_type')!r}",
        where=model,
        remedy=f"read that code; if you trust it, pin spec.{role}.revision and set trustRemoteCode: true there",
    )
