"""Where the results go."""

from __future__ import annotations

from pydantic import Field

from specbatch.api.base import DnsLabel, SpecModel, Text, Uri
from specbatch.api.quantity import Quantity


class ResultsSpec(SpecModel):
    """Where the results go, and how safely they are written."""

    dir: Text = Field(
        default="results",
        description="The folder under which <dir>/<metadata.name>/ is written and, after a crash, continued. On Kubernetes a path on "
        "job.volumes.results. Relative paths are relative to the current directory.",
        examples=["/results"],
    )
    part_size: Quantity = Field(
        default="256Mi",
        description="A part file that has grown to this size is closed and never changes again; the next rows go into a new one.",
        examples=["1Gi"],
    )
    publish: Uri | None = Field(
        default=None,
        description="An object-storage URI under which <publish>/<metadata.name>/ gets closed parts while the run goes on, then the manifest, "
        "then _SUCCESS. Credentials never belong into it.",
        examples=["s3://bucket/runs/"],
    )
    publish_seconds: float = Field(
        default=600.0,
        gt=0,
        le=86400,
        description="With publish, a part is closed and uploaded at the latest after this many seconds.",
        examples=[60],
    )
    publish_retry_seconds: float = Field(
        default=300.0,
        ge=0,
        le=86400,
        description="How long uploads are tried again after the last row, before the run ends with exit code 74. The same command started again "
        "goes on with them.",
        examples=[3600],
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
        le=2**31 - 1,
        description="Finished rows reach the disk at the latest after this many of them.",
        examples=[1],
    )
    report: bool = Field(default=True, description="Whether to write report.html beside the results.", examples=[False])
    name: DnsLabel | None = Field(
        default=None,
        description="The run's folder under dir and publish, instead of <metadata.name>. Another one starts the run anew, beside the results that are "
        "there; `specbatch submit --fresh` chooses one.",
        examples=["nightly-2"],
    )
