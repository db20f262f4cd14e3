"""Lines of OpenAI's batch API: the request is in `body`, and is answered in the same API's form."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from specbatch.api.models import TargetSpec
from specbatch.results.rows import Endpoint, ErrorCode
from specbatch.runner.chat.responses import as_chat
from specbatch.runner.dataset.bad_rows import RowError, shown
from specbatch.runner.rows.options import Options, read_options, refuse_options

CHAT: Endpoint = "/v1/chat/completions"
COMPLETIONS: Endpoint = "/v1/completions"
RESPONSES: Endpoint = "/v1/responses"

_LOCAL = ("/", "./", "../", "~", "file:")
LINE_FIELDS = ("custom_id", "id", "method", "url", "body")


def is_openai_line(fields: Mapping[str, Any]) -> bool:
    """Whether an object looks like a line of an OpenAI batch file, if only one whose body was forgotten."""
    if fields.get("body") is not None:
        return "custom_id" in fields or "url" in fields
    asks_otherwise = any(fields.get(name) is not None for name in ("prompt", "messages"))
    names_endpoint = fields.get("url") is not None and endpoint_of(fields) is not None
    return names_endpoint and "custom_id" in fields and not asks_otherwise


def endpoint_of(fields: Mapping[str, Any]) -> Endpoint | None:
    """The endpoint that a line names, with or without a host, /v1 (Azure's have none) or a slash at the end; None: another one.

    A line that names none asks the one that has what its body holds.
    """
    url, body = fields.get("url"), fields.get("body")
    if url is None:
        fields = body if isinstance(body, dict) and body.get("messages") is None else {}
        return (
            COMPLETIONS if fields.get("prompt") is not None else RESPONSES if fields.get("input") is not None else CHAT
        )
    try:
        path = urlsplit(url).path.rstrip("/") if isinstance(url, str) else ""
    except ValueError:  # "http://[": no URL
        return None
    for endpoint in (CHAT, COMPLETIONS, RESPONSES):  # in this order: the one ends with the other
        if path == endpoint or path.endswith(endpoint.removeprefix("/v1")):
            return endpoint
    return None


def read_request(
    fields: Mapping[str, Any], *, known: frozenset[str], ignored: Collection[str]
) -> tuple[Endpoint, Any, Options]:
    """The request of a line: its endpoint, its messages or prompt, still to be checked, and its options.

    Args:
        fields: of the line.
        known: names that the spec has given a meaning: the id's, the answer's.
        ignored: names that are no options.

    Raises:
        RowError: it asks for what is not done here.
    """
    body, method, endpoint = fields.get("body"), fields.get("method"), endpoint_of(fields)
    if body is None and fields.get("url") is not None:
        raise RowError(ErrorCode.MISSING_PROMPT, "body is missing: what a line of OpenAI's batch API asks stands in it")
    if not isinstance(body, dict):
        raise RowError(ErrorCode.INVALID_FIELD, f"body must be an object, found {shown(body)}")
    if method is not None and (not isinstance(method, str) or method.upper() != "POST"):
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, f"method must be POST, found {shown(method)}")
    if endpoint is None:
        raise RowError(
            ErrorCode.UNSUPPORTED_REQUEST,
            f"url must be {CHAT}, {COMPLETIONS} or {RESPONSES}, found {shown(fields['url'])}",
        )
    for name in ("messages", "prompt"):  # no part of the request, though its writer may think so
        if name not in known and fields.get(name) is not None:
            raise RowError(ErrorCode.INVALID_ROW, f"{name} stands beside body: a row asks one of them")
    beside = {name: value for name, value in fields.items() if name not in known.union(LINE_FIELDS)}
    refuse_options(beside, why="stands beside body, not in it: put it into the body", ignored=ignored)
    asked = "prompt" if endpoint == COMPLETIONS else "messages"
    if endpoint == RESPONSES:
        body = as_chat(body)
    others = {name: value for name, value in body.items() if name != asked}
    options = read_options(others, place="body.", closed=True, ignored=ignored)
    if body.get(asked) is None:
        raise RowError(
            ErrorCode.MISSING_PROMPT,
            f"body has no {'input' if endpoint == RESPONSES else asked}, which {endpoint} asks for",
        )
    return endpoint, body[asked], options


def means_target(named: Any, target: TargetSpec) -> bool:
    """Whether a request that names this model means the target: as the spec has it, or its last part alone; in any case, with its revision or without."""
    if not isinstance(named, str):
        return False
    name, model = named.strip().rstrip("/").lower(), target.model.rstrip("/").lower()
    if target.revision is not None:
        name = name.removesuffix(f"@{target.revision.lower()}").removesuffix(f":{target.revision.lower()}")
    # Another owner's model of this name is another model, but a folder says nothing of its owner.
    return name in {model, _last(model)} or (model.startswith(_LOCAL) and _last(name) == _last(model))


def _last(name: str) -> str:
    return re.split(r"[/:\\]", name.removesuffix(".gguf"))[-1]
