"""Runs side by side: the facts of each, and where the comparison is not fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specbatch.results.compare.fields import Value, values_of
from specbatch.results.compare.texts import SameTexts
from specbatch.results.report.facts import gather
from specbatch.results.storage.folder import Folder

_SHORT_SECONDS = 10.0
_UNFAIR = {
    "dataset": "the datasets differ: speed, acceptance and texts are of other rows",
    "rows": "the runs have different numbers of rows",
    "target": "the targets differ: their texts and speeds are of other models",
    "device": "the devices differ",
    "shards": "the numbers of shards differ: the speeds of shards add up, as if all had run at once",
    "temperature": "the temperatures differ",
    "max new tokens": "maxNewTokens differs",
    "price of a GPU hour": "the prices of a GPU hour differ",
    "target alone was": "the speed of the target alone was measured by replay in some, and estimated by the run itself in others",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One run: its label, where it is, and field -> value; None where it is not known. `texts` against the first run."""

    label: str
    where: str
    values: Mapping[str, Value]
    texts: SameTexts | None = None


def read_compared(folder: Folder, label: str, *, price: float | None = None) -> Compared:
    """The facts of one run, from its manifests and progress files; `price` as `gather`.

    Raises:
        ResultsError: no run is there.
    """
    return Compared(label=label, where=folder.uri, values=values_of(gather(folder, rows=False, price=price)))


def warnings_of(runs: Sequence[Compared]) -> list[str]:
    """Why the runs should not be compared as they are."""
    warnings = [
        sentence
        for name, sentence in _UNFAIR.items()
        if len({run.values[name] for run in runs if run.values[name] is not None}) > 1
    ]
    of_some = {
        "no GPU hours were counted (on a CPU, or by an earlier release), so tokens have no cost": [
            run.label
            for run in runs
            if run.values["price of a GPU hour"] is not None and run.values["cost of 1M tokens"] is None
        ],
        "not complete": [run.label for run in runs if run.values["state"] != "complete"],
        f"decoded for less than {_SHORT_SECONDS:.0f} s, so speeds are rough": [
            run.label for run in runs if 0 < float(run.values["decoding"] or 0) < _SHORT_SECONDS
        ],
        "restarted on the way, and warmed up more than once": [
            run.label for run in runs if int(run.values["attempts"] or 0) > 1
        ],
    }
    return warnings + [f"{sentence}: {', '.join(labels)}" for sentence, labels in of_some.items() if labels]


def labels_of(folders: Sequence[Folder]) -> list[str]:
    """The shortest ends of the paths that differ; the same folder twice has the same label."""
    paths = [folder.uri.rstrip("/").split("/") for folder in folders]
    different = len({tuple(path) for path in paths})
    for parts in range(1, max(map(len, paths)) + 1):
        labels = ["/".join(path[-parts:]) for path in paths]
        if len(set(labels)) == different:
            return labels
    raise AssertionError("whole paths differ")
