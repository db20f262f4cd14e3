"""What a job's prompts share, from the first rows of a dataset that is here: for `specbatch plan`, which waits for nothing."""

from __future__ import annotations

from collections.abc import Mapping

from specbatch.api.job import Spec
from specbatch.errors import SpecbatchError
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.dataset.sources import is_remote
from specbatch.runner.peek.encoding import make_encoding
from specbatch.runner.peek.peek import LOOKED_AT, first_rows
from specbatch.runner.peek.sharing import SharedPrompts, Sharing
from specbatch.runner.rows.find_form import Head, find_form
from specbatch.runner.rows.forms import RowRules
from specbatch.runner.rows.row import Row
from specbatch.runner.rows.row_reader import RowReader

_BYTES = 16 << 20  # read
_TOKENS = 1 << 20  # a second or two of a tokenizer


def sharing_here(spec: Spec, env: Mapping[str, str]) -> Sharing | None:
    """What the first rows share, by the target's tokenizer if that is here; None where the dataset is not, or cannot be read as it stands."""
    if is_remote(spec.dataset.uri):
        return None
    try:
        raws, _ = first_rows(Dataset(spec.dataset), LOOKED_AT, _BYTES)
        form = find_form(spec.dataset, Head.of(raws, spec.dataset.ignore_fields))
        encoding = make_encoding(spec, env, None)
    except SpecbatchError:  # whoever runs it, or looks at it, is told
        return None
    reader = RowReader(RowRules(spec.decoding, spec.dataset, encoding.target, found=form))
    shared = SharedPrompts("tokens" if encoding.encoder is not None else "bytes")
    rows = 0
    for raw in raws:
        rows += 1
        row = reader.read(raw)
        if isinstance(row, Row):
            try:
                text, tokens = encoding.of(row)
            except RowError:
                continue
            shared.add(row.index, text if tokens is None else tokens, row.decoding.n)
        if shared.unit == "tokens" and shared.total > _TOKENS:
            break
    return shared.found(rows)
