"""The LoRA adapter that a spec puts on top of its target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from specbatch.errors import ModelError
from specbatch.plan.shapes.weight_files import json_object
from specbatch.runner.models.content import weights_hash

CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """An adapter that is here.

    name: as the spec says it
    path: its folder
    """

    name: str
    path: Path

    @property
    def identity(self) -> str:
        """`name@content-...`, for the results' identity."""
        return f"{self.name}@{weights_hash(self.path, CONFIG)}"

    @property
    def rank(self) -> int:
        """Of its matrices.

        Raises:
            ModelError: its config does not say.
        """
        rank = json_object(self.path / CONFIG).get("r")
        if type(rank) is not int or rank < 1:
            raise ModelError(f"{CONFIG} has no rank (r)", where=self.name, remedy="name a LoRA adapter's folder")
        return rank


def find_adapter(name: str) -> AdapterFiles:
    """The adapter's folder.

    Raises:
        ModelError: it is none, or holds no safetensors, or damaged ones.
    """
    path = Path(name).expanduser().absolute()
    if not (path / CONFIG).is_file():
        raise ModelError(
            f"no adapter: {path} holds no {CONFIG}",
            where=f"spec.target.adapter {name}",
            remedy="name the folder that PeftModel.save_pretrained wrote, or what `huggingface-cli download ID --local-dir` got",
        )
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{path} holds no safetensors",
            where=f"spec.target.adapter {name}",
            remedy="save it again with safe_serialization=True: pickled weights are never read",
        )
    for file in files:
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file.name} cannot be read: {error}",
                where=f"spec.target.adapter {name}",
                remedy="it is cut off or damaged: download or save it again",
            ) from error
    return AdapterFiles(name, path)
