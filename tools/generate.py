"""Every generated file, and how it is made.

python -m tools.generate            writes them
python -m tools.generate --check    exits 1 where one is stale, and names it
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from specbatch.api.schema import json_schema
from tools import helm_chart, modules, recorded_models
from tools.deployment import DOCUMENTS, filled
from tools.golden import GOLDEN, NETWORK_POLICY, golden, network_policy
from tools.reference import exit_codes, row_options, spec_reference

ROOT = Path(__file__).parent.parent

GENERATED: dict[str, Callable[[], str]] = {
    "docs/reference/spec.md": spec_reference,
    "docs/reference/exit-codes.md": exit_codes,
    "docs/reference/row-options.md": row_options,
    "docs/reference/specbatchjob.schema.json": lambda: json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
    **{name: partial(filled, name) for name in DOCUMENTS},  # the printed plans in them
    **{name: partial(recorded_models.filled, name) for name in recorded_models.DOCUMENTS},
    modules.DOCUMENT: modules.module_list,
    helm_chart.SCHEMA: helm_chart.schema,
    helm_chart.KNOWLEDGE: helm_chart.knowledge,
    **{f"{helm_chart.CHART}/files/{name}": partial(helm_chart.sample, name) for name in helm_chart.SAMPLES},
    GOLDEN: golden,
    NETWORK_POLICY: network_policy,
}


def stale(root: Path = ROOT) -> list[str]:
    """The generated files that are not what they would be now."""
    return [name for name, make in GENERATED.items() if not _is(root / name, make())]


def write(root: Path = ROOT) -> list[str]:
    """Writes the stale files; returns their names."""
    names = stale(root)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GENERATED[name](), encoding="utf-8")
    return names


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    if list(arguments) == ["--check"]:
        names = stale()
        for name in names:
            print(f"{name} is stale: run make generate")
        return 1 if names else 0
    if arguments:
        print(__doc__)
        return 2
    for name in write():
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
