"""The weight files of a model folder: of the right kind, complete and not cut off, by their names, sizes and headers."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from specbatch.errors import ModelError

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_ADAPTER = "adapter_config.json"
_POINTER = b"version https://git-lfs"
_MOST_HEADER = 100_000_000  # bytes, as the safetensors library has it
_AGAIN = "download it again (git lfs pull, or hf download)"


def check_weight_files(path: Path, name: str) -> None:
    """Looks at what a load would read, without reading it.

    Args:
        path: a model's folder, or a .gguf file.
        name: as shown to people.

    Raises:
        ModelError: no weights, a LoRA adapter, pickles, an absent shard, or a file that is empty, cut off or a Git LFS pointer.
    """
    if path.is_file():
        _check_size(path, name)
        return
    refuse_adapter(path, name)
    files = weight_files(path, name)
    absent = [file.name for file in files if not file.exists()]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ModelError(
            f"{_INDEX} lists {len(files)} files of weights, and {absent[0]}{more} is not there",
            where=name,
            remedy="download the model again, completely",
        )
    for file in files:
        _check_safetensors(file, name)


def weight_files(path: Path, name: str) -> list[Path]:
    """The safetensors that transformers reads of a folder: the whole model in one, else what the index lists.

    Raises:
        ModelError: there are none, or the index cannot be read.
    """
    if (path / _WHOLE).is_file():
        return [path / _WHOLE]
    explicit = _explicit(path)
    if explicit:
        return [path / explicit]
    if (path / _INDEX).is_file():
        return [path / file for file in sorted(_indexed(path / _INDEX, name))]
    raise _without_weights(path, name)


def is_complete(path: Path) -> bool:
    """Whether everything is here that a load would read; a hub cache may lack some of it, and can be asked for the rest."""
    if path.is_file():
        return True
    try:
        return all(file.exists() for file in weight_files(path, ""))
    except ModelError:
        return False


def refuse_adapter(path: Path, name: str) -> None:
    """A LoRA adapter beside a model's weights would be ignored or applied, by what else is installed.

    Raises:
        ModelError: the folder holds an adapter.
    """
    if not (path / _ADAPTER).is_file():
        return
    base = json_object(path / _ADAPTER).get("base_model_name_or_path")
    of = f" of {base}" if base else ""
    if (path / _WHOLE).is_file() or (path / _INDEX).is_file():
        raise ModelError(
            f"the folder holds weights of a model and a LoRA adapter ({_ADAPTER}){of}: which of them is meant is not clear",
            where=name,
            remedy=f"remove {_ADAPTER} where the adapter is merged already; {_MERGE}",
        )
    raise ModelError(f"the folder holds a LoRA adapter{of}, and not a model", where=name, remedy=_MERGE)


_MERGE = (
    "merge it into its base model: `AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload().save_pretrained(MERGED)`"
    " (pip install peft), copy the tokenizer's files beside it, and name that folder"
)


def _check_safetensors(file: Path, name: str) -> None:
    """A header of JSON, its length before it, and as many bytes after it as it says."""
    size = _check_size(file, name)
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0  # bytes of the length
        if not 2 <= length <= min(size - 8, _MOST_HEADER):  # {}
            raise _broken(file, name, "is not safetensors, or its header is cut off")
        try:
            header = json.loads(stream.read(length))
            end = max((part["data_offsets"][1] for key, part in header.items() if key != "__metadata__"), default=0)
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError, IndexError):
            raise _broken(file, name, "has a header that cannot be read") from None
    if not isinstance(end, int) or size < 8 + length + end:
        raise _broken(file, name, f"is cut off: {size:,} bytes, and its header speaks of {8 + length + end:,}")


def _check_size(file: Path, name: str) -> int:
    try:
        with file.open("rb") as stream:
            pointer = stream.read(len(_POINTER)) == _POINTER
            size = stream.seek(0, 2)
    except OSError as error:
        raise _broken(file, name, f"cannot be read ({error.strerror or error})") from error
    if pointer:
        raise _broken(file, name, "is a Git LFS pointer, not the weights that it points to")
    if not size:
        raise _broken(file, name, "is empty")
    return size


def _broken(file: Path, name: str, what: str) -> ModelError:
    return ModelError(f"{file.name} {what}", where=name, remedy=_AGAIN)


def _indexed(index: Path, name: str) -> set[str]:
    placed = json_object(index).get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(file, str) for file in placed.values()):
        raise _broken(index, name, "cannot be read, or lists no weights")
    return set(placed.values())


def _explicit(path: Path) -> str | None:
    """A file of weights that config.json names."""
    found = json_object(path / "config.json").get("transformers_weights")
    return found if isinstance(found, str) and found.endswith(".safetensors") else None


def _without_weights(path: Path, name: str) -> ModelError:
    others = sorted(file.name for file in path.glob("*.safetensors"))
    if others:
        return ModelError(
            f"{path} holds {others[0]}, but neither {_WHOLE} nor {_INDEX}",
            where=name,
            remedy="save the model with save_pretrained, or download its index file as well",
        )
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        return ModelError(
            f"its weights are pickled ({pickles[0]}), and unpickling runs whatever code is in the file",
            where=name,
            remedy="convert them to safetensors (https://huggingface.co/spaces/safetensors/convert) and name that folder",
        )
    return ModelError(
        f"{path} holds no weights (*.safetensors or *.gguf)", where=name, remedy="download the model again, completely"
    )


def json_object(file: Path) -> dict[str, Any]:
    """What a JSON file holds; empty where it cannot be read or is no object: `plan.read_shape` says what is wrong with a config.json."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
