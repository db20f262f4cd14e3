"""Where the results go."""

from __future__ import annotations

from pydantic import Field

from specbatch.api.base import SpecModel, Text, Uri


class ResultsSpec(SpecModel):
    """Where the results go, and how safely they are written."""

    dir: Text = Field(
        default="results",
        description="The folder under which <dir>/<metadata.name>/ is written and, after a crash, continued. On Kubernetes a path on "
        "job.volumes.results. Relative paths are relative to the current directory.",
        examples=["/results"],
    )
    publish: Uri | None = Field(
        default=None,
        description="An object-storage URI to which finished parts, the manifest and _SUCCESS are copied. Credentials never belong into it.",
        examples=["s3://bucket/runs/"],
    )
    include_prompt: bool = Field(
        default=False, description="Whether each result row repeats its prompt.", examples=[True]
    )
    fsync_seconds: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="Finished rows reach the disk within this many seconds: the most work that a power cut can cost.",
        examples=[1],
    )
    fsync_rows: int = Field(
        default=100,
        ge=1,
        description="Finished rows reach the disk at the latest after this many of them.",
        examples=[1],
    )
    report: bool = Field(default=True, description="Whether to write report.html beside the results.", examples=[False])
