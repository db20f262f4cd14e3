"""The models that run as recorded rounds, named in documents between <!-- recorded --> and <!-- end -->, from the table in code."""

from __future__ import annotations

import re
from pathlib import Path

from specbatch.plan.recorded import RECORDED

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"(<!-- recorded -->).*?(<!-- end -->)", re.DOTALL)
DOCUMENTS = {"README.md": ", ", "README.zh-CN.md": "、"}


def filled(document: str, root: Path = ROOT) -> str:
    """A document's text with the names as they are now."""
    text = (root / document).read_text(encoding="utf-8")
    names = DOCUMENTS[document].join(sorted(set(RECORDED.values()), key=str.lower))
    made, count = _BLOCK.subn(lambda block: f"{block[1]}{names}{block[2]}", text)
    assert count == 1, f"{document} names no models"
    return made
