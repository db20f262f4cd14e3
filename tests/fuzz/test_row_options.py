"""Whatever options a row carries, in whatever form: a row that is prepared, or an error row with a code and a sentence. 30,000 rows in make fuzz."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from itertools import chain
from typing import Any

import pytest

from specbatch.api.decoding import DecodingSpec
from specbatch.api.models import TargetSpec
from specbatch.results.rows import ErrorCode
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.output.output_processor import OutputProcessor
from specbatch.runner.requests import RequestMaker
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.row_options import OPTIONS
from tests.fuzz.checks import DatasetCheck
from tests.fuzz.mutate import VALUES, changed, misspelled
from tests.runner.tiny import CHAT_TEMPLATE, byte_level_tokenizer, row_rules

ROWS = 1000  # a test
_TABLE = list(chain(*OPTIONS.values()))
_NAMES = [name for option in _TABLE for name in option.names]
_HOLDERS = [name for option in _TABLE if option.holds for name in option.names]
_TEMPLATE_ERRORS = {ErrorCode.CHAT_TEMPLATE, ErrorCode.PROMPT_TOO_LONG}
_MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}]},
    {"role": "assistant", "content": [{"type": "text", "text": "the"}, "x"]},
    {"role": "user", "content": [{"type": "text", "text": "hello"}]},
]  # fmt: skip
_FORMS: list[tuple[dict[str, Any], tuple[str, ...]]] = [  # and where its options stand
    ({"prompt": "hello"}, ()),
    ({"messages": _MESSAGES}, ()),
    ({"custom_id": "r", "url": "/v1/chat/completions", "body": {"messages": _MESSAGES, "model": "target"}}, ("body",)),
    ({"custom_id": "r", "method": "POST", "body": {"prompt": "hello"}}, ("body",)),
    ({"custom_id": "r", "body": {"messages": _MESSAGES}}, ()),
]
_NUMBERS = [0, 1, 1.0, -1, 0.5, 3, 24.0, 1e-38, 5e-324, 1e308, 2**31, 2**40, 2**63, -(2**63), 10**30, True, False]
_GOOD = {option.name: [*option.neutral, None] for option in _TABLE} | {
    "temperature": [0, 0.7, 1e-38],
    "top_p": [0.9, 1e-45],
    "top_k": [5, -1],
    "max_tokens": [3, 4.0],
    "stop": ["x", ["a", "b"]],
}


def option(chosen: random.Random, depth: int = 0) -> tuple[str, Any]:
    """A name and a value, each of them sometimes right."""
    if chosen.random() < 0.3:
        name = chosen.choice(list(_GOOD))
        value = chosen.choice(_GOOD[name])
    else:
        name, value = chosen.choice(_NAMES), chosen.choice(chosen.choice([_NUMBERS, VALUES]))
    if chosen.random() < 0.15:
        name = chosen.choice([misspelled(name, chosen), name.upper(), name.title().replace("_", ""), f"{name}_"])
    if depth < 4 and chosen.random() < 0.15:
        name, value = chosen.choice(_HOLDERS), dict(option(chosen, depth + 1) for _ in range(chosen.randint(0, 4)))
    return name, copy.deepcopy(value)


def row(chosen: random.Random) -> dict[str, Any]:
    form, path = chosen.choice(_FORMS)
    made = copy.deepcopy(form)
    if chosen.random() < 0.3:
        made = changed(made, _NAMES, chosen)
    holder = made
    for name in path:
        holder = holder.get(name) if isinstance(holder, dict) else None
    if isinstance(holder, dict):
        holder.update(option(chosen) for _ in range(chosen.randint(0, 3)))
    return made


@pytest.fixture(scope="module", params=["template", "no template"])
def check(request) -> DatasetCheck:
    tokenizer = byte_level_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    template = CHAT_TEMPLATE if request.param == "template" else None
    return DatasetCheck(
        PromptEncoder(tokenizer, template=template, max_length=300),
        OutputProcessor(detokenizer, "model", created=0, include_prompt=True),
        RequestMaker(detokenizer, frozenset({1})),
    )


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.slow if part == 0 else pytest.mark.faults) for part in range(15)]
)
def test_every_row_is_prepared_or_refused_with_a_code_and_a_sentence(tmp_path, check, part):
    chosen = random.Random(part)
    rules = row_rules(
        DecodingSpec(max_new_tokens=12),
        ignore_fields=chosen.sample(_NAMES, chosen.choice([0, 0, 3])),
        target=TargetSpec(model="embedded:target"),
        any_model=chosen.random() < 0.5,
    )
    path = tmp_path / "rows.jsonl"
    seen: Counter[str] = Counter()
    for _ in range(ROWS // 20):  # a file is checked as a whole: a row that fails is looked for among twenty
        lines = [json.dumps(row(chosen)).encode("utf-8", "surrogatepass") for _ in range(20)]
        path.write_bytes(b"\n".join(lines) + b"\n")
        try:
            seen += check.check(str(path), rules, lines=20)
        except BaseException as error:
            raise AssertionError(f"{rules} {lines!r:.5000}") from error
    assert seen["row"] > ROWS // 20, seen
    assert seen["unsupported_option"] > ROWS // 10, seen
    assert set(seen) <= {"row", *ErrorCode}
