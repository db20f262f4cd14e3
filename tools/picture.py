"""The pictures of the README: the report of a real quickstart, checked by `verify`, in a real Chromium, light and dark.

    make picture      writes docs/report-light.png and docs/report-dark.png, and prints what the run and verify said

It wants a machine that does nothing else, since its speed is in the picture, and a chromium on PATH.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
SIZE = {"width": 1080, "height": 770}


def main() -> int:
    """The command; returns its exit code."""
    if (chromium := shutil.which("chromium")) is None:
        print("no chromium on PATH")
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(ROOT / "job", folder / "job")
        results = "results/quickstart"
        for words in (("run", "job/quickstart.yaml"), ("verify", results, "--sample", "20"), ("report", results)):
            subprocess.run([sys.executable, "-m", "specbatch", *words], cwd=folder, check=True)  # noqa: S603  # fixed words
        _take(folder / results / "report.html", chromium)
    return 0


def _take(report: Path, chromium: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto(report.as_uri())
            page.screenshot(path=ROOT / f"docs/report-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
