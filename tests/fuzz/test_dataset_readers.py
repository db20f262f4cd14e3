"""Whatever stands in a dataset: prepared rows, error rows with a code and a sentence, or a refusal. 60,000 inputs in make fuzz."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from typing import Any

import pytest
import zstandard

from specbatch.api.decoding import DecodingSpec
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.encodings import encoding_of, ends_lines_with_cr
from specbatch.runner.dataset.shapes import LINES as LINES_EACH
from specbatch.runner.dataset.shapes import layout_of
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.output.output_processor import OutputProcessor
from specbatch.runner.requests import RequestMaker
from specbatch.runner.rows.forms import RowRules
from specbatch.runner.rows.prompts import PromptEncoder
from tests.fuzz.checks import DatasetCheck
from tests.fuzz.mutate import VALUES, changed, damaged
from tests.runner.tiny import CHAT_TEMPLATE, byte_level_tokenizer, row_rules

INPUTS = 2000  # a test
_BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0.5}
VALID: list[dict[str, Any]] = [
    {"id": "a", "prompt": "hello"},
    {"id": 7, "prompt": "hello", "temperature": 0.7, "top_p": 0.9, "top_k": 5, "seed": 3, "max_tokens": 7},
    {"prompt": "the", "stop": ["END", "\n"], "ignore_eos": True, "maxNewTokens": 9, "topP": None},
    {"id": "c", "prompt": [{"role": "user", "content": "hello"}]},
    {"id": "d", "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": [{"type": "text", "text": "x"}]}]},
    {"question_id": 81, "question": "hello", "answer": 42},
    {"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": _BODY},
    {"custom_id": "r2", "method": "POST", "url": "/v1/completions", "body": {"prompt": "hello", "stop": "x", "n": 1, "echo": False}},
    {"custom_id": "r3", "method": "POST", "url": "/v1/chat/completions", "body": {**_BODY, "tools": [], "response_format": {"type": "text"}}},
    {"id": "long", "prompt": "hello " * 300},
    {"id": "tool", "messages": [{"role": "tool", "content": "which the template refuses"}]},
    {"id": "unicode", "prompt": "naïve 你好 😀 <|im_start|>"},
]  # fmt: skip
NAMES = sorted({name for row in VALID for name in row} | set(_BODY) | {"logprobs", "top_logprobs", "chat_template_kwargs", "echo", "best_of", "logit_bias"})  # fmt: skip
LINES = [json.dumps(row).encode() for row in VALID]


@pytest.fixture(scope="module")
def check() -> DatasetCheck:
    tokenizer = byte_level_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    return DatasetCheck(
        PromptEncoder(tokenizer, template=CHAT_TEMPLATE, max_length=300),
        OutputProcessor(detokenizer, "model", created=0, include_prompt=True),
        RequestMaker(detokenizer, frozenset({1})),
    )


def make_lines(chosen: random.Random) -> bytes:
    """The rows of a dataset, some of them changed, the whole sometimes damaged."""
    rows = []
    for row in chosen.choices(VALID, k=chosen.randint(1, 8)):
        value = changed(row, NAMES, chosen) if chosen.random() < 0.6 else row
        value = chosen.choice(VALUES) if chosen.random() < 0.03 else value
        escaped = chosen.random() < 0.5
        rows.append(json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))
    data = b"\n".join(rows) + b"\n" * chosen.randint(0, 2)
    return damaged(data, LINES, chosen) if chosen.random() < 0.6 else data


def make(number: int) -> tuple[str, bytes, RowRules, int | None]:
    """An input: the file's ending, its bytes, how it is read, and how many rows it must have."""
    chosen = random.Random(number)
    data = chosen.randbytes(chosen.randint(0, 2000)) if number % 16 == 0 else make_lines(chosen)
    ending = chosen.choice([".jsonl", ".jsonl", ".txt", ".json", ""])
    lines: int | None = count_of(data)
    if number % 5 == 1:
        pack = chosen.choice([gzip.compress, zstandard.compress])
        packed = pack(data) + (pack(b"\n" + LINES[0]) if chosen.random() < 0.2 else b"")
        if chosen.random() < 0.7:
            packed = damaged(packed, [packed], chosen)
        data, lines = packed, None
        ending += ".gz" if pack is gzip.compress else ".zst"
    rules = row_rules(
        decoding=DecodingSpec(max_new_tokens=12),
        format=chosen.choice(["auto", "auto", "auto", "jsonl", "messages", "openai", "text"]),
        prompt_field=chosen.choice(["prompt", "prompt", "question"]),
        id_field=chosen.choice(["id", "id", "question_id"]),
        answer_field=chosen.choice([None, "answer"]),
        template="{{ id }}: {{ prompt }}" if number % 9 == 4 else None,
        salt="salt",
    )
    return ending, data, rules, lines


def count_of(data: bytes) -> int | None:
    """Lines that are not blank; None where that is the question itself: where there is none, a BOM, another encoding, or another layout."""
    lines = [line for line in data.split(b"\r" if ends_lines_with_cr(data) else b"\n") if line.strip()]
    return None if b"\xef\xbb\xbf" in data or encoding_of(data) or not lines or not_lines(data) else len(lines)


def not_lines(data: bytes) -> bool:
    head = data.replace(b"\r", b"\n") if ends_lines_with_cr(data) else data
    return layout_of(head, whole=True) != LINES_EACH


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.slow if part == 0 else pytest.mark.faults) for part in range(31)]
)
def test_every_row_is_prepared_or_has_a_code_and_a_sentence(tmp_path, check, part):
    seen: Counter[str] = Counter()
    for number in range(part * INPUTS, part * INPUTS + (INPUTS if part else 500)):
        ending, data, rules, lines = make(number)
        path = tmp_path / f"rows{ending}"
        path.write_bytes(data)
        try:
            seen += check.check(str(path), rules, lines=lines)
        except BaseException as error:
            raise AssertionError(f"input {number}: {ending} {rules} {data!r:.3000}") from error
    assert seen["row"] > 100, seen
    assert seen["refused"] > 5, seen
    assert not part or set(seen) >= set(ErrorCode) - {ErrorCode.DECODING, ErrorCode.TOKENIZATION}, set(ErrorCode) - set(
        seen
    )
