"""As many loads on their way at a time as the GPU's shared memory holds: how much a kernel takes, only its compilation tells."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from collections.abc import Callable, Hashable

from triton.runtime.errors import OutOfResources

_known: dict[Hashable, int] = {}


def with_stages(key: Hashable, most: int, run: Callable[[int], None]) -> None:
    """Runs a kernel with the most stages that fit, which are remembered.

    Args:
        key: of the kernel, its block sizes, dtype and device.
        most: stages that are tried first.
        run: launches it with so many; must not be captured the first time.

    Raises:
        OutOfResources: not even one stage fits.
    """
    stages = _known.get(key, most)
    while True:
        try:
            run(stages)
            break
        except OutOfResources:
            if stages == 1:
                raise
            stages -= 1
    _known[key] = stages
