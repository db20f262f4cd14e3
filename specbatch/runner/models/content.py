"""Hashes of a model's files: a restart compares them to notice another model, and to name the file that has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

# What transformers reads beside the weights and what decides on a row's text. All of it is downloaded from the hub (`hub.selection`).
_TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
_ENDS_BYTES = 1 << 16
_WHOLE_BYTES = 1 << 28  # larger files than this are identified by their size and ends, as weights are
_GGUF_HEADER_BYTES = 1 << 25  # tokens, merges and the template stand before the tensors


def weights_hash(path: Path, config: str = "config.json") -> str:
    """`content-...` of a folder's weights and config, or of a .gguf file: cheap, whatever they weigh.

    Of each file the name, the size, the first and the last bytes count.
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in [path] if path.is_file() else sorted([path / config, *path.glob("*.safetensors")]):
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            digest.update(f"{file.name}\0{size}\0".encode())
            for start in (0, max(0, size - _ENDS_BYTES)):
                stream.seek(start)
                digest.update(stream.read(_ENDS_BYTES))
    return f"content-{digest.hexdigest()}"


def text_files(path: Path, *, code: bool = False) -> dict[str, str]:
    """name -> hash of every file beside the weights that decides on text: configs, tokenizer, templates.

    Args:
        path: a model's folder, or a .gguf file: of that the header counts, and what lies beside it, which transformers reads too.
        code: whether Python code of the model's own is run, and counts.
    """
    folder = path.parent if path.is_file() else path
    patterns = (*_TEXT_FILES, "*.py") if code else _TEXT_FILES
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    found = {str(file.relative_to(folder)): file_hash(file) for file in files}
    if path.is_file():
        with path.open("rb") as stream:
            header = hashlib.blake2b(stream.read(_GGUF_HEADER_BYTES), digest_size=8)
        found[f"{path.name} (header)"] = header.hexdigest()
    return found


def file_hash(path: Path) -> str:
    """Of a file's content; of a huge one's size and ends."""
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        if size > _WHOLE_BYTES:
            digest.update(f"{size}\0".encode() + stream.read(_ENDS_BYTES))
            stream.seek(size - _ENDS_BYTES)
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
