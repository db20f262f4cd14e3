"""The runner's image: whether nodes have it already, and whether it is of this version."""

from __future__ import annotations

import re
from collections.abc import Iterator

from specbatch import __version__
from specbatch.api.job_section import JobSpec
from specbatch.cluster.client.kinds import NODES
from specbatch.cluster.doctor.checkup import Result, Visit
from specbatch.cluster.preflight.nodes import Node

_RELEASE = re.compile(r"v?\d+\.\d+(\.\d+)?\S*$")
_DOCKER_HUB = "docker.io/"


def check_image(visit: Visit) -> Iterator[Result]:
    """That of the spec, or the default one."""
    section = visit.job.spec.job if visit.job else JobSpec()
    image = section.image
    tag = _tag(image)
    if tag is not None and _RELEASE.match(tag) and tag.removeprefix("v") != __version__:
        yield Result(
            "image version",
            "warning",
            f"{image} is not of this specbatch ({__version__})",
            f"take the same version on both sides: pip install specbatch=={tag.removeprefix('v')}",
        )
    nodes = [Node(node) for node in visit.cluster.list(NODES)]
    having = [node.name for node in nodes if any(_same(image, name) for name in node.images)]
    where = f"{image}: on {len(having)} of {len(nodes)} nodes"
    if not having and section.image_pull_policy == "Never":
        yield Result(
            "image",
            "failed",
            f"{where}, and imagePullPolicy: Never forbids to pull it",
            "load it onto the nodes, or set spec.job.imagePullPolicy: IfNotPresent",
        )
    else:
        # Kubelets list their fifty largest images only.
        yield Result(
            "image", "ok", where + ("" if having else ", as far as they tell; the first pod of a node pulls it")
        )


def _tag(image: str) -> str | None:
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2] or None


def _same(wanted: str, listed: str) -> bool:
    """Names are listed in full: docker.io/library/busybox:1."""
    full = (
        wanted
        if "/" in wanted and ("." in wanted.partition("/")[0] or ":" in wanted.partition("/")[0])
        else _DOCKER_HUB + (wanted if "/" in wanted else f"library/{wanted}")
    )
    name = full if ":" in full.rpartition("/")[2] or "@" in full else f"{full}:latest"
    return listed == name
