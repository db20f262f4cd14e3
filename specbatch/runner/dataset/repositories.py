"""Chooses the files of a Hugging Face dataset (a repository, a clone of one, a folder of `save_to_disk`): its configuration and split.

As the `datasets` library does: by `configs:` in README.md, else by the names of folders and files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from specbatch.errors import DatasetError
from specbatch.runner.dataset.bad_rows import shown
from specbatch.runner.dataset.folders import Chosen, holds_rows
from specbatch.runner.dataset.globs import matches

_FRONT_MATTER = re.compile(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", re.DOTALL)
_SHARD = re.compile(r"(?P<split>[\w.]+?)-\d{5}-of-\d{5}")
_CONVERTED = re.compile(r"(?P<config>[^/]+)/(partial-)?(?P<split>[^/]+)/\d{4}\.parquet")  # refs/convert/parquet
_WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_SPOKEN = re.compile(r"(?<![a-z0-9])(" + "|".join(_WORDS) + r")(?![a-z0-9])")
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Repository:
    """A dataset's files.

    Attributes:
        where: its URI or path, for people.
        names: of all files, relative to its root.
        read: the content of one of them.
    """

    where: str
    names: Sequence[str]
    read: Callable[[str], bytes]

    @property
    def is_saved(self) -> bool:
        """Whether `save_to_disk` of the `datasets` library wrote it."""
        return "dataset_dict.json" in self.names or ("state.json" in self.names and bool(self._data_files("")))

    @property
    def is_described(self) -> bool:
        """Whether its README.md says which files it has, or its files are named by their splits."""
        return bool(self._configs()) or self._has_shards()

    def choose(self, config: str | None, split: str | None) -> Chosen:
        """The files of one configuration and split, in order; the others are left out, with a word.

        Raises:
            DatasetError: several and none is named, or not one that is there.
        """
        splits = self._saved() if self.is_saved else self._of_config(config)
        split = self._one_of(splits, split, "split", "splits")
        taken = splits[split]
        if not taken:
            remedy = "see in it which files there are, and name some: dataset.uri with a path or a glob"
            raise DatasetError(f"split {split} has no files of rows", where=self.where, remedy=remedy)
        others = {name: f"of split {other}" for other, names in splits.items() if other != split for name in names}
        return Chosen(taken, {name: why for name, why in others.items() if name not in taken})

    def _one_of(self, found: Mapping[str, Any], named: str | None, what: str, plural: str) -> str:
        listed = ", ".join(sorted(found))
        if named is not None and named not in found:
            raise DatasetError(
                f"there is no {what} {shown(named)}; it has {listed}",
                where=self.where,
                remedy=f"set dataset.{what} to one of them",
            )
        if named is None and len(found) > 1:
            remedy = f"name one: dataset.{what}: {next(iter(found))}"
            raise DatasetError(f"it has several {plural}: {listed}", where=self.where, remedy=remedy)
        return named or next(iter(found))

    def _saved(self) -> dict[str, Sequence[str]]:
        if "dataset_dict.json" in self.names:
            names = _json(self.read("dataset_dict.json")).get("splits", [])
            return {name: self._data_files(f"{name}/") for name in names}
        return {str(_json(self.read("state.json")).get("_split") or "train"): self._data_files("")}

    def _data_files(self, folder: str) -> Sequence[str]:
        listed = (
            _json(self.read(f"{folder}state.json")).get("_data_files") if f"{folder}state.json" in self.names else None
        )
        return [f"{folder}{one['filename']}" for one in listed or [] if isinstance(one, dict) and "filename" in one]

    def _of_config(self, config: str | None) -> dict[str, Sequence[str]]:
        configs = {str(one.get("config_name", _DEFAULT)): one for one in self._configs()}
        if not configs:
            return self._by_names(config)
        if config is None and len(configs) > 1:
            config = next(
                (name for name, one in configs.items() if one.get("default") is True or name == _DEFAULT), None
            )
        chosen = configs[self._one_of(configs, config, "config", "configurations")]
        folder = f"{chosen['data_dir'].strip('/')}/" if isinstance(chosen.get("data_dir"), str) else ""
        listed = chosen.get("data_files")
        if listed is None:
            return _splits_of([name for name in self.names if name.startswith(folder)])
        if isinstance(listed, str | list) and not (isinstance(listed, list) and listed and isinstance(listed[0], dict)):
            listed = [{"split": "train", "path": listed}]
        if isinstance(listed, dict):
            listed = [{"split": split, "path": path} for split, path in listed.items()]
        return {
            str(one.get("split")): self._matching(folder, one.get("path")) for one in listed if isinstance(one, dict)
        }

    def _matching(self, folder: str, patterns: Any) -> list[str]:
        wanted = [patterns] if isinstance(patterns, str) else patterns or []
        return sorted(
            {name for one in wanted for name in self.names if matches(name, f"{folder}{one}".removeprefix("./"))}
        )

    def _by_names(self, config: str | None) -> dict[str, Sequence[str]]:
        rows = [name for name in self.names if holds_rows(name)]
        converted = {name: found for name in rows if (found := _CONVERTED.fullmatch(name))}
        if rows and len(converted) == len(rows):
            configs = {found["config"]: None for found in converted.values()}
            config = self._one_of(
                configs, config or (_DEFAULT if _DEFAULT in configs else None), "config", "configurations"
            )
            return _grouped((found["split"], name) for name, found in converted.items() if found["config"] == config)
        if config is not None and config != _DEFAULT:
            remedy = "leave dataset.config out, or name files by dataset.uri"
            raise DatasetError(
                f"it has no configuration {shown(config)}: its README.md names none", where=self.where, remedy=remedy
            )
        return _splits_of(rows)

    def _has_shards(self) -> bool:
        shards = [name for name in self.names if is_shard(name) and holds_rows(name)]
        return any(name.startswith("data/") for name in shards) or len(_splits_of(shards)) > 1

    def _configs(self) -> list[Mapping[str, Any]]:
        if "README.md" not in self.names:
            return []
        found = _FRONT_MATTER.match(self.read("README.md").decode("utf-8", "replace"))
        try:
            described = yaml.safe_load(found[1]) if found else None
        except yaml.YAMLError as error:
            raise DatasetError(
                "the YAML at the beginning of README.md is damaged",
                where=self.where,
                remedy="name files by dataset.uri",
            ) from error
        configs = described.get("configs") if isinstance(described, dict) else None
        return [one for one in configs or [] if isinstance(one, dict)]


def is_shard(name: str) -> bool:
    """Whether a file is named like a shard of a split: train-00000-of-00002.parquet."""
    return _SHARD.match(_file(name)) is not None


def _splits_of(names: Iterable[str]) -> dict[str, Sequence[str]]:
    """Splits by the names of folders and files; where none is named, all files are of `train`."""
    rows = sorted(name for name in names if holds_rows(name))
    spoken = [(split, name) for name in rows if (split := _split_in(name))]
    return _grouped(spoken) if spoken else {"train": rows}


def _split_in(name: str) -> str | None:
    shard = _SHARD.match(_file(name))
    if shard and (shard["split"] in _WORDS or name.startswith("data/")):
        return _WORDS.get(shard["split"], shard["split"])
    spoken = (found for part in reversed(name.lower().split("/")) if (found := _SPOKEN.search(part)))
    return next((_WORDS[found[1]] for found in spoken), None)


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, Sequence[str]]:
    groups: dict[str, list[str]] = {}
    for split, name in pairs:
        groups.setdefault(split, []).append(name)
    return dict(groups)


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _file(name: str) -> str:
    return name.rpartition("/")[2]
