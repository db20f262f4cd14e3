"""Options among a row's columns: honoured, refused by name, or data."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain

import pytest

from specbatch.api import DecodingSpec
from specbatch.api.models import TargetSpec
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.openai_lines import means_target
from specbatch.runner.rows.row import BadRow, Row
from specbatch.runner.rows.row_options import OPTIONS, find_option, nearest_option
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import row_rules

BASE = DecodingSpec(max_new_tokens=64)
RULES = row_rules(BASE)
PROMPT = "Convert 30 litres to millilitres."
MESSAGES = [{"role": "user", "content": PROMPT}]
ALL = list(chain(*OPTIONS.values()))


def read(fields, rules=RULES):
    return RowReader(rules).read(RawRow(0, 1, json.dumps(fields).encode()))


def chat(line=(), **body):
    return {"custom_id": "r", "body": {"messages": MESSAGES, **body}, **dict(line)}


UNSUPPORTED = [
    {"repeat_penalty": 1.5}, {"encoder_repetition_penalty": 2.0}, {"typical_p": 0.2}, {"sequence_bias": [[[31], 100]]}, {"eos_token_id": 3},
    {"best_of": 4}, {"until": ["are"]}, {"max_length": 30}, {"do_sample": True},
    {"min_length": 30}, {"include_stop_str_in_output": True},
    {"skip_special_tokens": False}, {"reasoning_effort": "high"},
    {"modalities": ["text", "audio"]}, {"sampling_params": {"best_of": 2}},
    {"generation_config": {"num_beams": 2}}, {"options": {"repeat_penalty": 1.1}}, {"parameters": {"typical_p": 0.5}}, {"numBeams": 2},
    {"input": "the red car"}, {"num_ctx": 64}, {"suffix": "x"}, {"prediction": {"type": "content"}},
]  # fmt: skip


@pytest.mark.parametrize("option", UNSUPPORTED, ids=str)
def test_what_another_engine_would_honour_is_refused_by_name_in_every_form(option):
    name = next(iter(option))
    for row in ({"prompt": PROMPT, **option}, {"messages": MESSAGES, **option}, chat(**option)):
        bad = read(row)
        assert isinstance(bad, BadRow), bad
        assert bad.code is ErrorCode.UNSUPPORTED_OPTION
        assert name in bad.message
    for row in ({"prompt": PROMPT, **option}, chat(**option)):
        assert isinstance(read(row, row_rules(BASE, ignore_fields=list(option))), Row)


HONOURED = [
    ({"stop_sequences": ["are"]}, {"stop": ["are"]}),
    ({"max_output_tokens": 3}, {"max_new_tokens": 3}),
    ({"num_predict": 3}, {"max_new_tokens": 3}),
    ({"max_tokens": 24.0}, {"max_new_tokens": 24}),
    ({"sampling_params": {"temperature": 1.5, "max_tokens": 3}}, {"temperature": 1.5, "max_new_tokens": 3}),
    ({"parameters": {"max_new_tokens": 5, "details": False, "best_of": 1}}, {"max_new_tokens": 5}),
    ({"options": {"num_predict": 5, "num_thread": 8}}, {"max_new_tokens": 5}),
    ({"extra_body": {"top_k": 5}, "temperature": 1}, {"top_k": 5, "temperature": 1.0}),
    ({"ignoreEOS": True}, {"ignore_eos": True}),
    ({"Temperature": 1.0}, {"temperature": 1.0}),
    ({"topP": 0.5, "top_p": 0.5}, {"top_p": 0.5}),
    ({"top_k": -1, "temperature": 0.7}, {"top_k": 0, "temperature": 0.7}),
    ({"do_sample": True, "temperature": 0.7}, {"temperature": 0.7}),
    ({"do_sample": False}, {"temperature": 0.0}),
    (
        {"repetitionPenalty": 1.5, "frequency_penalty": -1, "presence_penalty": 2.0},
        {"repetition_penalty": 1.5, "frequency_penalty": -1.0, "presence_penalty": 2.0},
    ),
    ({"min_p": 0.1, "logit_bias": {"31": 100}}, {"min_p": 0.1, "logit_bias": {"31": 100.0}}),
    (
        {"bad_words": "sorry", "suppress_tokens": [3], "begin_suppress_tokens": [4]},
        {"bad_words": ["sorry"], "suppress_tokens": [3], "begin_suppress_tokens": [4]},
    ),
    ({"bad_words_ids": [[3, 4], [5]]}, {"bad_words": [[3, 4], [5]]}),
    ({"stop_token_ids": [15], "min_new_tokens": 3.0}, {"stop_token_ids": [15], "min_tokens": 3}),
    ({"no_repeat_ngram_size": 3}, {"no_repeat_ngram_size": 3}),
    ({"logprobs": True}, {"top_logprobs": 0}),
    ({"logprobs": True, "top_logprobs": 5}, {"top_logprobs": 5}),
    ({"logprobs": 3}, {"top_logprobs": 3}),
    ({"prompt_logprobs": 0}, {"prompt_logprobs": 0}),
    ({"echo": True, "logprobs": 1}, {"echo": True, "top_logprobs": 1}),
    ({"logprobs": False, "top_logprobs": 0}, {"top_logprobs": None}),
    ({"num_return_sequences": 4, "temperature": 1.0}, {"n": 4}),
]


@pytest.mark.parametrize(("option", "decoding"), HONOURED, ids=str)
def test_an_option_is_honoured_under_every_name_and_in_every_form(option, decoding):
    base = replace(RULES, decoding=BASE.model_copy(update={"temperature": 0.2}) if "do_sample" in option else BASE)
    for row in ({"prompt": PROMPT, **option}, {"messages": MESSAGES, **option}, chat(**option)):
        found = read(row, base)
        assert isinstance(found, Row), found
        assert {name: getattr(found.decoding, name) for name in decoding} == decoding


def test_neutral_and_empty_values_ask_for_nothing():
    usual = read({"id": "a", "prompt": PROMPT}).fingerprint
    for option in ALL:
        for value in (*option.neutral, None, *([] if option.sets else ["", [], {}])):
            found = read({"id": "a", "prompt": PROMPT, option.name: value})
            assert isinstance(found, Row), (option.name, value, found)
            assert found.fingerprint == usual
            assert isinstance(read(chat(**{option.name: value})), Row), (option.name, value)


@pytest.mark.parametrize(
    "name",
    ["stop", "bad_words", "stop_token_ids", "suppress_tokens", "logit_bias", "tools", "tool_choice", "response_format", "guided_regex", "system",
     "chat_template_kwargs", "reasoning"],
)  # fmt: skip
def test_empty_text_in_the_place_of_text_a_list_or_a_mapping_is_as_if_it_were_left_out(name):
    base = replace(RULES, decoding=BASE.model_copy(update={"stop": ["###"]}))
    for empty, without in (
        (chat(**{name: ""}), chat()),
        ({"id": "a", "prompt": PROMPT, name: ""}, {"id": "a", "prompt": PROMPT}),
    ):
        assert read(empty, base).fingerprint == read(without, base).fingerprint
    assert read(chat(stop=[]), base).decoding.stop == [], "an empty list is none, in place of the spec's"


def test_reasoning_whose_parts_are_all_null_asks_for_nothing():
    assert read(chat(reasoning={"effort": None, "summary": None})).fingerprint == read(chat()).fingerprint
    assert "reasoning" in read(chat(reasoning={"effort": "high", "summary": None})).message


def test_every_option_of_the_table_that_is_not_honoured_is_refused_with_the_remedy():
    for option in ALL:
        if option.sets or option.holds or option.harmless:
            continue
        for name in option.names:
            bad = read(chat(**{name: {"x": 1}}))
            assert (bad.code, "dataset.ignoreFields" in bad.message) == (ErrorCode.UNSUPPORTED_OPTION, True), name


def test_columns_that_are_no_options_are_data():
    data = {
        "category": "writing", "model": "gpt-4", "user": "u", "metadata": {"n": 2}, "N": 14, "think": "I think so", "format": "essay", "context": "a text",
        "until": "2024-01-01", "options": {"A": "yes", "B": "no"}, "parameters": {"type": "object"}, "reasoning": "because", "output": "x", "tool": "hammer",
        "raw": "x", "instruction": "x", "details": "none",
    }  # fmt: skip
    assert isinstance(read({"prompt": PROMPT, **data}), Row)


def test_names_of_the_table_are_unique_and_no_column_name_is_nearly_one():
    names = [name for option in ALL for name in option.names]
    assert len({name.replace("_", "") for name in names}) == len(names)
    assert all(find_option(name) is not None for name in names)
    assert [nearest_option(name) for name in ("max_token", "temprature", "repetition_penality")] == [
        "max_tokens",
        "temperature",
        "repetition_penalty",
    ]
    for name in (
        "tool",
        "instruction",
        "systems",
        "thinking",
        "input_text",
        "response",
        "score",
        "stopped_at",
        "x" * 10**6,
    ):
        assert (find_option(name), nearest_option(name)) == (None, None)


def test_system_is_the_conversation_s_system_message():
    system = {"role": "system", "content": "Answer in French."}
    for row in ({"prompt": PROMPT}, {"messages": MESSAGES}, chat()):
        holder = row.get("body", row)
        holder["system"] = "Answer in French."
        assert read(row).messages == [system, *MESSAGES]
    assert read({"messages": [system, *MESSAGES], "system_prompt": "Answer in French."}).messages == [system, *MESSAGES]
    assert read({"messages": [system, *MESSAGES], "system": "Answer in Danish."}).code is ErrorCode.INVALID_FIELD
    assert read({"prompt": PROMPT, "system": " "}).prompt == PROMPT
    assert read({"prompt": PROMPT, "system": 7}).code is ErrorCode.INVALID_FIELD
    raw = {"custom_id": "r", "url": "/v1/completions", "body": {"prompt": PROMPT, "system": "x"}}
    assert read(raw).code is ErrorCode.UNSUPPORTED_OPTION


def test_thinking_is_asked_for_in_three_ways():
    for option in ({"enable_thinking": False}, {"think": False}, {"chat_template_kwargs": {"enable_thinking": False}}):
        assert read({"prompt": PROMPT, **option}).enable_thinking is False
    assert read({"prompt": PROMPT, "enable_thinking": 1}).code is ErrorCode.INVALID_FIELD
    disagree = {"prompt": PROMPT, "enable_thinking": True, "think": False}
    assert read(disagree).code is ErrorCode.INVALID_FIELD


@pytest.mark.parametrize(
    "option",
    [
        {"max_tokens": 1, "num_predict": 2}, {"temperature": 0.5, "options": {"temperature": 0.6}}, {"do_sample": False, "temperature": 0.7}, {"temperature": "0.7"},
        {"top_k": 2**63, "temperature": 0.7}, {"top_k": 2**40, "temperature": 0.7}, {"max_tokens": 10**18}, {"seed": -1}, {"top_p": 0}, {"stop": ["a", ""]}, {"max_tokens": 0},
        {"temperature": ""}, {"max_tokens": ""}, {"ignore_eos": ""}, {"enable_thinking": ""}, {"n": []},
        {"sampling_params": "x"}, {"sampling_params": [1]},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_disagree_or_are_out_of_range_are_invalid(option):
    for row in ({"prompt": PROMPT, **option}, chat(**option)):
        assert read(row).code is ErrorCode.INVALID_FIELD


def test_a_row_with_a_prompt_and_messages_asks_neither_unless_the_spec_says_which():
    both = {"prompt": PROMPT, "messages": [{"role": "user", "content": "Say hello."}]}
    assert read(both).code is ErrorCode.INVALID_ROW
    assert read(both, row_rules(BASE, prompt_field="prompt")).prompt == PROMPT
    assert read(both, row_rules(BASE, format="messages")).messages == both["messages"]
    assert read(both, row_rules(BASE, ignore_fields=["messages"])).prompt == PROMPT
    assert read(both, row_rules(BASE, ignore_fields=["prompt"])).messages == both["messages"]


@pytest.mark.parametrize("key", ["-1", "hello", "03"])
def test_a_bias_for_what_is_no_token_id_is_refused_with_what_one_looks_like(key):
    bad = read({"prompt": PROMPT, "logit_bias": {key: 1}})
    assert bad.message == f'logit_bias: the key {key!r} is no token id: a whole number in quotes, such as "31"'


def test_what_stands_beside_the_body_is_refused():
    for line in ({"temperature": 1.9}, {"max_tokens": 3}, {"sampling_params": {"seed": 1}}):
        assert read(chat(line)).code is ErrorCode.UNSUPPORTED_OPTION
    assert read(chat({"max_token": 3})).code is ErrorCode.UNKNOWN_FIELD
    assert read(chat({"prompt": "x"})).code is ErrorCode.INVALID_ROW
    assert isinstance(read(chat({"category": "x", "n": 1, "temperature": None})), Row)
    assert isinstance(read(chat({"temperature": 1.9}), row_rules(BASE, ignore_fields=["temperature"])), Row)


@pytest.mark.parametrize(
    ("target", "revision", "named", "same"),
    [
        ("Qwen/Qwen3-8B", None, "qwen3-8b", True), ("Qwen/Qwen3-8B", None, "Qwen/Qwen3-8B", True), ("Qwen/Qwen3-8B", "abc", "Qwen/Qwen3-8B@abc", True),
        ("Qwen/Qwen3-8B", None, "someone/Qwen3-8B", False), ("Qwen/Qwen3-8B", None, "gpt-4o", False), ("/models/Qwen3-8B/", None, "Qwen/Qwen3-8B", True),
        ("embedded:target", None, "target", True), ("embedded:target", None, "embedded:target", True), ("embedded:target", None, "", False),
        ("./m/q.gguf", None, "q", True), ("Qwen/Qwen3-8B", None, 5, False),
    ],
)  # fmt: skip
def test_a_model_is_the_target_by_its_id_its_last_part_or_its_folder(target, revision, named, same):
    assert means_target(named, TargetSpec(model=target, revision=revision)) is same


def test_a_request_for_another_model_is_refused_with_both_names_or_counted():
    target = TargetSpec(model="embedded:target")
    other = chat(model="meta-llama/Llama-3.1-70B-Instruct")
    bad = read(other, row_rules(BASE, target=target))
    assert bad.code is ErrorCode.UNSUPPORTED_OPTION
    assert all(
        name in bad.message for name in ("meta-llama/Llama-3.1-70B-Instruct", "embedded:target", "dataset.anyModel")
    )
    for any_model, counted in ((False, 1), (True, 1)):
        reader = RowReader(row_rules(BASE, target=target, any_model=any_model))
        rows = [
            reader.read(RawRow(at, at, json.dumps({**row, "custom_id": f"{at}"}).encode()))
            for at, row in enumerate([other, chat(model="target"), chat()])
        ]
        assert [isinstance(row, Row) for row in rows] == [any_model, True, True]
        assert reader.other_models == counted


@pytest.mark.parametrize(
    ("line", "endpoint"),
    [
        ({"method": None}, "/v1/chat/completions"), ({"method": "post"}, "/v1/chat/completions"), ({"url": "/v1/chat/completions/"}, "/v1/chat/completions"),
        ({"url": "https://api.openai.com/v1/chat/completions?api-version=1"}, "/v1/chat/completions"), ({"url": "/chat/completions"}, "/v1/chat/completions"),
        ({"body": {"prompt": "x"}}, "/v1/completions"), ({"url": "http://h/v1/completions", "body": {"prompt": "x"}}, "/v1/completions"),
    ],
    ids=str,
)  # fmt: skip
def test_lines_of_other_writers_name_the_same_endpoints(line, endpoint):
    assert read(chat(line)).endpoint == endpoint


def test_a_batch_line_without_its_body_is_told_so_in_its_own_form():
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    for rules in (RULES, row_rules(BASE, format="openai")):
        bad = read(line, rules)
        assert (bad.id, bad.endpoint, bad.code) == ("a", "/v1/chat/completions", ErrorCode.MISSING_PROMPT)
        assert bad.message.startswith("body is missing")
    page = {"custom_id": "a", "url": "https://example.com/completions", "prompt": PROMPT}
    assert read(page).prompt == PROMPT, "a column of addresses makes no row a request"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1, found 0; to score a prompt alone, ask for one token"),
        ({"num_predict": -3}, "num_predict: Input should be greater than or equal to 1, found -3"),
        ({"sampling_params": {"max_tokens": 1.5}}, "sampling_params.max_tokens: Input should be a valid integer, found 1.5"),
        ({"logprobs": 99}, "logprobs: Input should be less than or equal to 20, found 99"),
        ({"prompt_logprobs": -1}, "prompt_logprobs: Input should be greater than or equal to 0, found -1"),
        ({"bad_words": ["a", ""]}, "bad_words.1: String should have at least 1 character, found ''"),
        ({"bad_words": [[-1]]}, "bad_words.0.0: Input should be greater than or equal to 0, found -1"),
        ({"logit_bias": {str(token): 1 for token in range(513)}},
         "logit_bias: 513 items, and 512 are the most that it may have; give fewer; tokens that are to be banned may go to suppress_tokens"),
        ({"stop_sequences": ["a"] * 17}, "stop_sequences: 17 items, and 16 are the most that it may have; give fewer"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_the_name_that_the_row_has_for_it(fields, message):
    assert read({"prompt": PROMPT, **fields}).message == message
