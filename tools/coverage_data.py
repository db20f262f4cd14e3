"""What slipcover counted, as the data that `coverage report` reads: a statement is one line there, however many it spans.

python -m tools.coverage_data       .slipcover.json -> .coverage
"""

from __future__ import annotations

import json
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Replaces .coverage; files that nothing imported are in it, too."""
    counted = json.loads((ROOT / ".slipcover.json").read_text(encoding="utf-8"))["files"]
    files = {name: lines for name, lines in counted.items() if name.startswith("specbatch/")}  # kernels of tests, too
    data = CoverageData(str(ROOT / ".coverage"))
    data.erase()
    data.add_lines({str(ROOT / name): lines["executed_lines"] for name, lines in files.items()})
    data.touch_files([str(ROOT / name) for name in files])
    data.write()


if __name__ == "__main__":
    main()
