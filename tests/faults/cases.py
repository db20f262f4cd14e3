"""A run to disturb: its rows of every kind, its spec, and what it gives when nobody disturbs it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from specbatch.api import parse_spec
from tests.runner.tiny import spec_text, write_rows
from tests.zygote import Attempt, Zygote

NAME = "tiny"
BULKY = {"dataset__answerField": "answer", "results__partSize": "4Ki"}  # for `bulky_rows`: a few rows fill a part


def mixed_rows(count: int, seed: int = 0) -> list[Any]:  # noqa: C901 - a list of kinds
    """Good rows, greedy and sampled, of three forms, and every few rows one that is bad."""
    chosen = random.Random(seed)
    rows: list[Any] = []
    for number in range(count):
        row: dict[str, Any] = {"id": f"r{number}", "prompt": "hello " * chosen.randint(1, 6) + str(number)}
        row["max_tokens"] = chosen.randint(2, 16)
        match number % 12:
            case 1 | 7:
                row |= {"temperature": 0.9, "top_p": 0.95}
            case 2:
                row = {"id": number, "messages": [{"role": "user", "content": f"你好 {number}"}], "max_tokens": 5}
            case 3:
                body = {"messages": [{"role": "user", "content": f"the {number}"}], "max_tokens": 6}
                row = {"custom_id": f"o{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            case 4:
                row = {**row, "id": f"r{number - 4}"}  # a duplicate
            case 5:
                row.pop("id")
        rows.append(row)
        match number % 15:
            case 6:
                rows.append(b'{"id": "broken", "prompt": ')
            case 8:
                rows.append(b'{"prompt": "\xff\xfe"}')
            case 10:
                rows.append({"id": f"empty{number}", "prompt": ""})
            case 12:
                rows.append({"id": f"long{number}", "prompt": "hello " * 200})
    return rows


def bulky_rows(count: int) -> list[Any]:
    """A few rows whose lines are long, and cost no more to decode; among them a bad one of each length."""
    rows: list[Any] = [
        {
            "id": f"r{number}",
            "prompt": f"the {number}",
            "answer": "long " * 150,
            "max_tokens": 3,
            "temperature": number % 2,
        }
        for number in range(count)
    ]
    rows[count // 2 : count // 2] = [b"{broken", {**rows[0]}, {"id": "empty", "prompt": " "}]
    return rows


@dataclass
class Case:
    """One run in a folder of its own.

    Attributes:
        folder: holds the dataset, the specs and the results.
        run_dir: the results.
        bucket: where they are published, if they are.
    """

    zygote: Zygote
    folder: Path
    rows: list[Any]
    changes: dict[str, Any]

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dataset = write_rows(self.folder / "rows.jsonl", self.rows)
        self.disk = self.folder / "disk"
        self.disk.mkdir(exist_ok=True)
        self.run_dir = self.disk / "results" / NAME
        self.bucket = self.disk / "bucket" / NAME  # where it may be published
        self._specs = 0

    def spec(self, **changes: Any) -> Path:
        """A spec file with some fields (dotted: decoding__seed=3) changed."""
        value = yaml.safe_load(spec_text(self.zygote.pair, self.dataset, self.disk / "results"))
        value["spec"]["decoding"]["numSpeculativeTokens"] = "auto"
        for path, part in {**self.changes, **changes}.items():
            holder = value["spec"]
            *sections, name = path.split("__")
            for section in sections:
                holder = holder.setdefault(section, {})
            holder[name] = part
        self._specs += 1
        path = self.folder / f"spec-{self._specs}.yaml"
        path.write_text(yaml.safe_dump(value))
        parse_spec(path.read_text(), str(path))  # a test's own mistake is told here
        return path

    def start(self, setup: dict[str, Any] | None = None, **changes: Any) -> Attempt:
        """Begins an attempt."""
        return self.zygote.start(self.spec(**changes), setup)

    def run(self, setup: dict[str, Any] | None = None, **changes: Any) -> Attempt:
        """An attempt that has ended."""
        return self.zygote.run(self.spec(**changes), setup)

    def twin(self, folder: Path) -> Case:
        """The same run elsewhere: same dataset, as the file is part of the identity; other results."""
        case = Case(self.zygote, folder, self.rows, self.changes)
        case.dataset = self.dataset
        return case


def answers(run_dir: Path) -> dict[int, list[dict[str, Any]]]:
    """index -> what part and errors files say of the row."""
    found: dict[int, list[dict[str, Any]]] = {}
    for path in [*run_dir.glob("part-*.jsonl"), *run_dir.glob("errors-*.jsonl")]:
        for line in path.read_bytes().splitlines():
            index, value = answer(line)
            found.setdefault(index, []).append(value)
    return found


def answer(line: bytes) -> tuple[int, dict[str, Any]]:
    """A row's index and what its line says, without what may differ between two runs of one job."""
    value = json.loads(line)
    ours = value.get("specbatch", value)
    ours.pop("speculation", None)  # k follows measured costs
    ours.pop("created", None)  # when the first attempt began
    if value.get("response"):
        value["response"]["body"].pop("created")
    return ours["index"], value
