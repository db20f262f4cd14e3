"""The decoding of one row: the spec's, with the row's own options under the spec's own rules."""

from __future__ import annotations

from pydantic import ValidationError

from specbatch.api.decoding import DecodingSpec
from specbatch.results.rows import ErrorCode
from specbatch.runner.bad_rows import RowError, shown
from specbatch.runner.rows.options import Options


def override_decoding(base: DecodingSpec, options: Options) -> DecodingSpec:
    """`base` with what the row sets.

    Raises:
        RowError: a value that the spec would refuse too, or a demand to sample at temperature 0.
    """
    decoding = base
    if options.decoding:
        try:
            decoding = DecodingSpec.model_validate({**base.model_dump(), **options.decoding})
        except ValidationError as error:
            raise RowError(ErrorCode.INVALID_FIELD, _sentence(error)) from None
    if options.must_sample and decoding.temperature == 0:
        raise RowError(
            ErrorCode.UNSUPPORTED_OPTION,
            f"{options.must_sample}: true is not supported at temperature 0, which is greedy; give a temperature above 0",
        )
    return decoding


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return f"{path or 'decoding'}: {first['msg']}, found {shown(first['input'])}"
