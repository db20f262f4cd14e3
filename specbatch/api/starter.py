"""The starter that `specbatch init` writes: every field of the run, with its documentation, ready to run on any machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from specbatch.api.explain import FieldDoc, documentation, yaml_value

# What is not commented out in the starter: the demonstration pair on the CPU, so that the first run needs nothing.
_VALUES: dict[str, Any] = {
    "metadata.name": "my-job",
    "spec.target.model": "embedded:target",
    "spec.target.dtype": "float32",
    "spec.drafter.model": "embedded:drafter",
    "spec.drafter.dtype": "float32",
    "spec.placement.gpus": 0,
    "spec.decoding.maxNewTokens": 128,
    "spec.decoding.temperature": 0,
    "spec.batching.maxLength": 512,
    "spec.dataset.uri": "prompts.jsonl",
    "spec.results.dir": "results",
}
_FIXED = ("apiVersion", "kind")

_HEAD = """\
# A specbatch run: a dataset of prompts through a target, accelerated by a drafter.
#
#   specbatch validate FILE      check this file
#   specbatch plan FILE          see which GPU holds what, before anything runs
#   specbatch run FILE           run it on this machine
#   specbatch explain PATH       everything about a field, such as spec.placement.ratio
#
# What is commented out shows the default, or an example where there is none.
"""


def starter() -> str:
    """A valid, commented YAML file, made from the types."""
    lines = [_HEAD]
    for top in documentation().children:
        lines += _top(top)
    return "\n".join(lines).rstrip() + "\n"


def _top(doc: FieldDoc) -> Iterator[str]:
    if doc.path in _FIXED:
        yield f"{doc.name}: {doc.example}"
        return
    yield f"{doc.name}:"
    for child in doc.children:
        if child.is_section:
            yield ""
            yield f"  # {child.description}"
            live = any(path.startswith(f"{child.path}.") for path in _VALUES)
            yield f"  {child.name}:" if live else f"  # {child.name}:"
            for field in child.children:
                yield from _entry(field, "    " if live else "  #   ")
        else:
            yield from _entry(child, "  ")


def _entry(doc: FieldDoc, indent: str) -> Iterator[str]:
    comment = "" if indent.lstrip().startswith("#") else "# "
    text = f"{indent}{comment}{doc.name}: {_shown(doc)}"
    if doc.path in _VALUES:
        text = f"{indent}{doc.name}: {yaml_value(_VALUES[doc.path])}"
    yield f"{text:<40}  # {doc.first_sentence}"


def _shown(doc: FieldDoc) -> str:
    """The default; the example where the default says nothing."""
    empty = doc.default is None or doc.default in ([], {}) or doc.is_section
    return yaml_value(doc.example if empty else doc.default)
