"""report.html: one self-contained file that tells people what a run did, and its figures as PNG."""

from __future__ import annotations

from pathlib import Path


def write_report(run_dir: str | Path) -> Path:
    """Writes run_dir/report.html and run_dir/figures/*.png from what the directory holds; says where the report is.

    Raises:
        ResultsError: matplotlib is not installed, or the files cannot be read or written.
    """
    raise NotImplementedError(run_dir)
