"""The hash of a spec: equal hashes may share a results folder, different ones may not.

Hashed is what decides the rows that are written: the models, the decoding, the rows' length, the dataset, and the form of a row.
Left out is what decides only where, how fast and how safely: placement, batch size, threads, error budget, folders and
publishing, fsync, the Kubernetes job, metadata. So a run may go on with other GPUs, in another place, under another name. Of the
dataset's URI, what is secret is left out, too: signed anew it is the same dataset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from specbatch.redact import without_secrets

# Changes when the meaning of a hashed field changes, so that old results are not continued under a new meaning.
_FORMAT = "specbatch.dev/v1alpha1"

SECTIONS = ("target", "drafter", "decoding", "engine")
FIELDS = {
    "batching": ("maxLength",),
    "dataset": (
        "uri",
        "config",
        "split",
        "revision",
        "format",
        "promptField",
        "template",
        "answerField",
        "idField",
        "ignoreFields",
        "columns",
        "anyModel",
        "chatTemplate",
        "systemPrompt",
        "enableThinking",
        "limit",
    ),
    "results": ("includePrompt",),
}

# Fields newer than the first results, each with the values at which it changes nothing: there it is left out, so that specs which
# do not use it keep their hash, and results of older versions are continued.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "engine.name": ("auto", "native"),  # the engine that ran is in the run's identity
    "engine.options": ({},),
    "target.adapter": (None,),
    "target.kvDtype": ("auto",),
    "drafter.quantization": (None,),
    "drafter.window": (None,),
    "drafter.kvDtype": ("auto",),
    "decoding.minP": (0.0,),
    "decoding.repetitionPenalty": (1.0,),
    "decoding.frequencyPenalty": (0.0,),
    "decoding.presencePenalty": (0.0,),
    "decoding.noRepeatNgramSize": (0,),
    "decoding.logitBias": ({},),
    "decoding.badWords": ([],),
    "decoding.suppressTokens": ([],),
    "decoding.beginSuppressTokens": ([],),
    "decoding.n": (1,),
    "decoding.stopTokenIds": ([],),
    "decoding.minTokens": (0,),
    "decoding.topLogprobs": (None,),  # 0 asks for the token's own
    "decoding.promptLogprobs": (None,),
    "decoding.echo": (False,),
    "decoding.structuredOutput": (None,),
    "decoding.reasoning": ("inline",),
    "decoding.fromModel": (False,),
}


# Of the drafter: by the coupled rule it changes no token, by the rejection rule it changes which are drawn.
_HOW_DRAFTED = ("quantization", "window", "kvDtype")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything in nested mappings. An empty one counts as a value, but the outermost."""
    if isinstance(value, Mapping) and (value or not path):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}" if path else name)
    else:
        yield path, value


def hashed_part(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved spec (camelCase, defaults filled in) that affects the results."""
    part = {section: spec[section] for section in SECTIONS}
    part |= {section: {name: spec[section][name] for name in names} for section, names in FIELDS.items()}
    if part["drafter"] is not None and spec["decoding"]["acceptanceRule"] == "coupled":
        part["drafter"] = {name: value for name, value in part["drafter"].items() if name not in _HOW_DRAFTED}
    part["dataset"]["uri"] = without_secrets(part["dataset"]["uri"])
    kept = {section: _used(section, fields) for section, fields in part.items()}
    return {section: fields for section, fields in kept.items() if fields != {}}


def _used(section: str, fields: Mapping[str, Any] | None) -> Any:
    """The fields of a section but those that change nothing."""
    if fields is None:
        return None
    return {name: value for name, value in fields.items() if value not in NEUTRAL.get(f"{section}.{name}", ())}


def hash_spec(spec: Mapping[str, Any]) -> str:
    """The sha256 (64 hex digits) of the canonical JSON of `hashed_part(spec)`."""
    canonical = json.dumps(hashed_part(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{_FORMAT}\n{canonical}".encode()).hexdigest()
