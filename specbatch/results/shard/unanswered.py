"""A run in which every row has ended and none was answered: it has not succeeded, and the commonest error says why."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence

from specbatch.errors import DatasetError, ResultsError
from specbatch.results.layout import parse_names
from specbatch.results.manifest import Manifest, answers_none, read_manifests
from specbatch.results.rows import ErrorCode
from specbatch.results.storage.folder import Folder
from specbatch.results.wire import decode_error

_LOOKED_AT_BYTES = 1 << 20  # of each errors file, for a row with the code
_AGAIN = "then start with --fresh: nothing was answered that could get lost"
_REMEDIES: Mapping[str, str] = {
    ErrorCode.MISSING_PROMPT: "name the field that holds the prompt in spec.dataset.promptField",
    ErrorCode.INVALID_JSON: "write one JSON object a line",
    ErrorCode.INVALID_ROW: "write one JSON object a line",
    ErrorCode.INVALID_ENCODING: "write the file as UTF-8",
    ErrorCode.PROMPT_TOO_LONG: "raise spec.batching.maxLength, or lower spec.decoding.maxNewTokens",
}
_OTHERWISE = "correct the rows (the errors file says what is wrong with each)"


def unanswered(folder: Folder) -> DatasetError | None:
    """The error of a run whose shards are all complete without a single result; None for any other.

    Raises:
        ResultsError: a manifest cannot be read.
    """
    manifests = read_manifests(folder)
    if not answers_none(manifests):
        return None
    code, sentence = commonest_error(manifests)
    rows = sum(one.totals.errors for one in manifests)
    message = _message(folder, code)
    return DatasetError(
        f"none of {rows:,} rows could be answered; {sentence}{f': {message}' if message else ''}",
        where=folder.uri,
        remedy=f"{_REMEDIES.get(code, _OTHERWISE)}; {_AGAIN}",
    )


def commonest_error(manifests: Sequence[Manifest]) -> tuple[str, str]:
    """The code that most error rows have, and how often: "300 x missing_prompt"."""
    counts = Counter[str]()
    for one in manifests:
        counts.update(one.totals.errors_by_code)
    code, count = counts.most_common(1)[0]
    return code, f"{count:,} x {code}"


def _message(folder: Folder, code: str) -> str:
    """What the first row with the code says; empty where none is found soon."""
    with contextlib.suppress(ResultsError, OSError, ValueError):
        for file in parse_names(folder.sizes(), "errors"):
            with folder.open(file.name) as opened:
                lines = opened.read(_LOOKED_AT_BYTES).splitlines()
            found = (decode_error(line) for line in lines)
            message = next((row.message for row in found if row.code == code), "")
            if message:
                return message
    return ""
