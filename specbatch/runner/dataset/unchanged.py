"""Checks after the last row that the dataset has not changed since the first: rows of two versions must not become one result."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.api.dataset import DatasetSpec
from specbatch.errors import DatasetError, SpecbatchError
from specbatch.formatting import first_lines
from specbatch.runner.dataset.source import Found
from specbatch.runner.dataset.sources import find_sources, is_remote
from specbatch.runner.retry import Retrier

_SHOWN = 3


def check_unchanged(spec: DatasetSpec, before: Found, retrier: Retrier, *, limited: bool) -> None:
    """Looks at the files again, unless they are those of one commit.

    Args:
        spec: spec.dataset.
        before: what was found there at the start.
        retrier: for a store that is out of reach.
        limited: the run wanted only so many rows, and has them: what is written behind them, or into new files, does not matter.

    Raises:
        DatasetError: a file was changed, replaced or removed, or a new one is there.
    """
    if before.pinned:
        return
    uri = spec.uri
    try:
        after = find_sources(spec, retrier)
    except SpecbatchError as error:
        if not is_remote(uri):
            raise _changed(uri, error.message) from error
        return  # a signature may have expired; every byte was read
    changes = list(_changes(before, after, limited=limited))
    if changes:
        raise _changed(uri, "; ".join(first_lines(changes, _SHOWN)))


def _changes(before: Found, after: Found, *, limited: bool) -> Iterator[str]:
    old, new = ({source.name: source.seen for source in found.sources} for found in (before, after))
    for name, seen in old.items():
        now = new.get(name)
        signs = [sign for sign in seen if now is not None and sign in now and seen[sign] != now[sign]]
        if now is None:
            yield f"{name} is gone"
        elif limited and now.get("size", 0) >= seen.get("size", 0):
            continue
        elif "size" in signs:
            yield f"{name} had {seen['size']:,} bytes, and has {now['size']:,} now"
        elif signs:
            yield f"{name} was written anew, with the same size"
    if not limited:
        yield from (f"{name} is new" for name in new if name not in old)


def _changed(uri: str, what: str) -> DatasetError:
    return DatasetError(
        f"the dataset was changed while it was read: {what}",
        where=uri,
        remedy="let it be while a run reads it. Where its rows are the same, start again: finished rows are kept, and each is compared. "
        "Where they are others now, start with --fresh, or put the old dataset back",
    )
