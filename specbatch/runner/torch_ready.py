"""Imports torch once the spec's thread settings are in the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from specbatch.api.placement import PlacementSpec
from specbatch.errors import ModelError
from specbatch.runner.environment import THREADS, prepare_environment

Loaded = TypeVar("Loaded")


def with_torch(placement: PlacementSpec, load: Callable[[], Loaded], *, doing: str) -> tuple[Loaded, bool]:
    """Imports torch with the threads that the spec or the user chose, then what needs it.

    Args:
        placement: spec.placement.
        load: imports what needs torch, and gives it.
        doing: what that is needed for, to be said where a package is missing.

    Returns:
        What `load` gave, and whether a model too small for several CPU threads may go down to one, since no number was chosen.

    Raises:
        ModelError: a package is not installed.
    """
    users = os.environ.get(THREADS)
    threads = prepare_environment(os.environ, placement.cpu_threads, terminal=sys.stderr.isatty())
    try:
        import torch  # noqa: PLC0415 - reads the environment once, when imported: it must have been set

        loaded = load()
    except ImportError as error:
        raise ModelError(
            f"{doing} needs packages that are not installed ({error})", remedy="pip install 'specbatch[runner]'"
        ) from error
    finally:
        # Libraries have read it. Left there, the next run of this process would take it for the user's choice.
        if users is None:
            os.environ.pop(THREADS, None)
        else:
            os.environ[THREADS] = users
    torch.set_num_threads(threads)
    return loaded, placement.gpus == 0 and placement.cpu_threads == "auto" and users is None
