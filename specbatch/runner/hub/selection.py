"""The files of a hub's repository that a run needs: one set of safetensors, config, tokenizer and templates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatch

from specbatch.errors import ModelError

_BESIDE = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
_TEMPLATES = "additional_chat_templates/*.jinja"
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def needed_files(
    names: Collection[str],
    indexed: Callable[[str], Collection[str]],
    *,
    model: str,
    code: bool = False,
    include: Sequence[str] = (),
) -> list[str]:
    """The names to download, sorted: no pickles, no ONNX, no GGUF, no second copy of the weights in another layout.

    Args:
        names: of all files of the repository.
        indexed: the files of weights that an index file lists.
        model: as shown to people.
        code: also Python files, for models with trustRemoteCode.
        include: glob patterns of further files, such as *Q4_K_M.gguf; they may stand in for safetensors.

    Raises:
        ModelError: the repository holds no weights that can be loaded, or a pattern finds nothing.
    """
    extra = {pattern: {name for name in names if fnmatch(name, pattern)} for pattern in include}
    empty = next((pattern for pattern, found in extra.items() if not found), None)
    if empty is not None:
        raise ModelError(f"no file of the repository matches {empty}", where=model, remedy=_there_are(names))
    wanted = {name for name in names if _beside_weights(name) or (code and name.endswith(".py"))}
    weights = _weights(names, indexed)
    if not weights and not extra:
        raise _no_weights(names, model)
    return sorted(wanted.union(weights, *extra.values()))


def _beside_weights(name: str) -> bool:
    at_root = "/" not in name and any(fnmatch(name, pattern) for pattern in _BESIDE)
    return at_root or fnmatch(name, _TEMPLATES)


def _weights(names: Collection[str], indexed: Callable[[str], Collection[str]]) -> set[str]:
    """As `plan.weight_files` chooses among the files of a folder."""
    if _WHOLE in names:
        return {_WHOLE}
    if _INDEX in names:
        return set(indexed(_INDEX))
    return {name for name in names if name.endswith(".safetensors") and "/" not in name}


def _no_weights(names: Collection[str], model: str) -> ModelError:
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    if gguf:
        return ModelError(
            f"the repository holds GGUF files ({', '.join(gguf[:3])}{', ...' if len(gguf) > 3 else ''}) and no safetensors",
            where=model,
            remedy=f"fetch one of them: --include {gguf[0]} --to DIR; then name that file as the model",
        )
    pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth")))
    if pickles:
        return ModelError(
            f"its weights are pickled ({pickles[0]}), and unpickling runs whatever code is in the file",
            where=model,
            remedy="convert them to safetensors (https://huggingface.co/spaces/safetensors/convert), or take another model",
        )
    return ModelError("the repository holds no weights", where=model, remedy=_there_are(names))


def _there_are(names: Collection[str]) -> str:
    listed = sorted(names)
    return f"there are: {', '.join(listed[:8])}{', ...' if len(listed) > 8 else ''}" if listed else "check the name"
