"""Parses raw lines into rows. Bad lines become BadRow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from specbatch.api.decoding import DecodingSpec
from specbatch.results.rows import Endpoint, ErrorCode
from specbatch.results.shard.keys import KeySet
from specbatch.runner.chat.options import NO_CHAT
from specbatch.runner.dataset.bad_rows import RowError, shown, whole
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.carried import carried_columns
from specbatch.runner.rows.forms import Form, FormName, RowRules, read_form, read_text
from specbatch.runner.rows.json_lines import parse_object
from specbatch.runner.rows.openai_lines import CHAT, LINE_FIELDS, RESPONSES, endpoint_of, is_openai_line, means_target
from specbatch.runner.rows.row import BadRow, Row
from specbatch.runner.rows.row_decoding import decoding_of_row
from specbatch.runner.rows.untyped import typed_fields

FINGERPRINT_VERSION = 2  # counts up with any change of Row.fingerprint: by it a restart knows finished rows again

_MAX_ID_CHARACTERS = 512
_OF_COLUMNS = (ErrorCode.MISSING_PROMPT, ErrorCode.INVALID_FIELD, ErrorCode.INVALID_ROW)
_FIRST_FIELDS = ("max_new_tokens", "temperature", "top_p", "top_k", "seed", "stop", "ignore_eos")
_NOT_OF_ROWS = ("from_model", "num_speculative_tokens", "max_speculative_tokens", "acceptance_rule")
_encode = json.JSONEncoder(sort_keys=True, check_circular=False).encode


class RowReader:
    """Reads raw rows in order; remembers their ids, so that a duplicate is found.

    Feed it every row of the dataset, also those of other shards (`claim`): the first row of an id is the same one everywhere.

    Attributes:
        other_models: requests read so far that name a model other than the target.
    """

    def __init__(self, rules: RowRules) -> None:
        self._rules = rules
        self._salted = hashlib.blake2b(rules.salt.encode("utf-8", "surrogatepass"), digest_size=12)
        self._decoded_as_usual = self._decoded_by(rules.decoding)
        self._ids = KeySet()
        self.other_models = 0

    def read(self, raw: RawRow) -> Row | BadRow:
        """The row, or why it is bad; never raises for anything that a file may hold."""
        row_id, endpoint, columns = None, None, None
        try:
            fields = fields_of(raw)
            row_id = self._named_id(fields)
            endpoint = self._endpoint(fields)
            columns = self._carried(fields, endpoint)
            self._claim(row_id)
            return self._row(raw, row_id or _made_id(raw), fields, columns)
        except RowError as error:
            bad = error
        except RecursionError:  # from comparing or printing what the JSON reader has just accepted
            bad = RowError(ErrorCode.INVALID_JSON, "nested too deeply")
        if raw.unread and bad.code in _OF_COLUMNS:
            bad = RowError(bad.code, f"{bad.message}; columns that are not read: {raw.unread}")
        made = _made_id(raw)
        digest = self._salted.copy()
        digest.update(made.encode())  # with the index in it: a duplicate has a fingerprint of its own
        return BadRow(
            row_id or made, raw.index, raw.line_number, digest.hexdigest(), bad.code, bad.message, endpoint, columns
        )

    def id_of(self, raw: RawRow) -> str:
        """The id that `read` gives the row, without reading more of it."""
        try:
            named = self._named_id(fields_of(raw))
        except (RowError, RecursionError):
            named = None
        return named or _made_id(raw)

    def claim(self, raw: RawRow) -> None:
        """Takes note of the id of a row that belongs to another shard."""
        with suppress(RowError):
            self._claim(self._named_id(fields_of(raw)))

    def _claim(self, named: str | None) -> None:
        if named is not None and not self._ids.add(hashlib.blake2b(named.encode(), digest_size=16).digest()):
            raise RowError(ErrorCode.DUPLICATE_ID, f"an earlier row has the id {shown(named)}")

    def _row(self, raw: RawRow, row_id: str, fields: Mapping[str, Any], columns: dict[str, Any] | None) -> Row:
        rules = self._rules
        form = read_text(_text(raw), rules) if raw.is_text else read_form(fields, rules)
        self._check_model(form.model)
        decoding = decoding_of_row(rules.decoding, form.options)
        if form.endpoint == RESPONSES and decoding.n > 1:
            message = "a response is one, and decoding.n asks for several: ask /v1/chat/completions"
            raise RowError(ErrorCode.UNSUPPORTED_REQUEST, message)
        return Row(
            id=row_id,
            index=raw.index,
            line_number=raw.line_number,
            fingerprint=self._fingerprint(form, decoding),
            prompt=form.prompt,
            messages=form.messages,
            raw=form.raw,
            decoding=decoding,
            enable_thinking=form.options.enable_thinking,
            answer=self._answer(fields, form),
            endpoint=form.endpoint,
            columns=columns,
            chat=form.options.chat,
        )

    def _answer(self, fields: Mapping[str, Any], form: Form) -> str | None:
        dataset = self._rules.dataset
        if dataset.answer_field is None:
            return form.answer if dataset.columns.carry == "all" else None
        return _answer(fields, dataset.answer_field)

    def _check_model(self, named: Any) -> None:
        target = self._rules.target
        if target is None or named is None or means_target(named, target):
            return
        self.other_models += 1
        if not self._rules.dataset.any_model:
            raise RowError(
                ErrorCode.UNSUPPORTED_OPTION,
                f"body.model is {shown(named)}, but the target is {target.model}; "
                "where its answers are wanted all the same, set dataset.anyModel: true",
            )

    def _carried(self, fields: Mapping[str, Any], endpoint: Endpoint | None) -> dict[str, Any] | None:
        dataset = self._rules.dataset
        own = LINE_FIELDS if endpoint else self._rules.form.columns
        return carried_columns(fields, dataset, own)

    def _endpoint(self, fields: Mapping[str, Any]) -> Endpoint | None:
        """The endpoint of an OpenAI batch line, bad or not: its error is written in that form."""
        if "body" in self._rules.dataset.ignore_fields or not is_openai_line(fields):
            return None
        if self._rules.form.name not in {FormName.REQUESTS, FormName.OPENAI}:
            return None
        return endpoint_of(fields) or CHAT

    def _named_id(self, fields: Mapping[str, Any]) -> str | None:
        for name in ("custom_id", self._rules.dataset.id_field):
            value = whole(fields.get(name))
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise RowError(
                    ErrorCode.INVALID_FIELD, f"{name} must be a string or a whole number, found {shown(value)}"
                )
            if isinstance(value, int) and value.bit_length() > 256:
                raise RowError(ErrorCode.INVALID_FIELD, f"{name} is {shown(value)}")
            text = str(value)
            if not 0 < len(text) <= _MAX_ID_CHARACTERS:
                raise RowError(ErrorCode.INVALID_FIELD, f"{name} must have 1 to {_MAX_ID_CHARACTERS} characters")
            return text
        return None

    def _fingerprint(self, form: Form, decoding: DecodingSpec) -> str:
        usual = decoding is self._rules.decoding
        digest = (self._decoded_as_usual if usual else self._decoded_by(decoding)).copy()
        if form.prompt is not None:
            digest.update(b"raw " if form.raw else b"prompt ")
            digest.update(form.prompt.encode())
        else:
            digest.update(_encode([form.messages, form.options.enable_thinking]).encode())
        if form.options.chat is not NO_CHAT:
            digest.update(_encode(form.options.chat.values).encode())
        return digest.hexdigest()

    def _decoded_by(self, decoding: DecodingSpec) -> hashlib.blake2b:
        """The salt, and the decoding fields that a row's text depends on: those that came later only where they ask for something."""
        fields: list[Any] = [getattr(decoding, name) for name in _FIRST_FIELDS]
        changed = decoding.model_dump(exclude_defaults=True, exclude={*_FIRST_FIELDS, *_NOT_OF_ROWS})
        fields += [changed] if changed else []
        digest = self._salted.copy()
        digest.update(_encode(fields).encode())
        return digest


def fields_of(raw: RawRow) -> Mapping[str, Any]:
    """The columns of a row; none of a line of text.

    Raises:
        RowError: it could not be read.
    """
    if raw.error is not None:
        raise raw.error
    if raw.fields is not None:
        return typed_fields(raw.fields) if raw.untyped else raw.fields
    return {} if raw.is_text else parse_object(raw.data)


def _made_id(raw: RawRow) -> str:
    """An id from position and content, the same on every start."""
    data = raw.data if raw.fields is None else _encode(raw.fields).encode()
    return f"row-{raw.index:08d}-{hashlib.blake2b(data, digest_size=6).hexdigest()}"


def _text(raw: RawRow) -> str:
    if b"\0" in raw.data:
        raise RowError(ErrorCode.INVALID_ENCODING, "zero bytes: the file was not written to its end, or is no text")
    try:
        return raw.data.decode()
    except UnicodeDecodeError as error:
        raise RowError(ErrorCode.INVALID_ENCODING, f"byte {error.start + 1} is not UTF-8") from None


def _answer(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, dict | list):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be a string or a number, found {shown(value)}")
    return value if isinstance(value, str) else json.dumps(value)
