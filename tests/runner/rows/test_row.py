import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specbatch.api import DecodingSpec
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.lines import RawRow, read_lines
from specbatch.runner.rows.row import BadRow, Row
from specbatch.runner.rows.row_reader import FINGERPRINT_VERSION, RowReader
from tests.runner.tiny import dataset_at, row_rules

BASE = DecodingSpec(max_new_tokens=64)

# As in OpenAI's batch guide (platform.openai.com/docs/guides/batch), and a line of the completions endpoint.
OPENAI_CHAT = {
    "custom_id": "request-1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {
        "model": "gpt-3.5-turbo-0125",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Hello world!"},
        ],
        "max_tokens": 1000,
    },
}
OPENAI_COMPLETION = {
    "custom_id": "request-2",
    "method": "POST",
    "url": "/v1/completions",
    "body": {"model": "davinci-002", "prompt": "Say this is a test", "max_tokens": 7, "temperature": 0.5, "stop": "\n"},
}


def read(*rows, **rules):
    """The readings of some rows, one after another; the only one where there is one."""
    reader = RowReader(row_rules(**{"decoding": BASE, **rules}))
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    readings = [reader.read(RawRow(at, at + 1, line)) for at, line in enumerate(lines)]
    return readings[0] if len(readings) == 1 else readings


def refused(*rows, **rules):
    reading = read(*rows, **rules)
    assert isinstance(reading, BadRow), reading
    return reading.code


def test_prompt_row():
    row = read({"id": "a", "prompt": "hello", "category": "writing"})
    assert (row.id, row.prompt, row.messages, row.raw, row.decoding) == ("a", "hello", None, False, BASE)


def test_messages_row_joins_text_parts_and_knows_developer():
    content = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "world"}]
    row = read({"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": content}]})
    assert row.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello world"}]


def test_prompt_that_is_a_list_of_messages_is_messages():
    assert read({"prompt": [{"role": "user", "content": "x"}]}).messages == [{"role": "user", "content": "x"}]


def test_null_is_absent_so_that_a_table_may_hold_prompts_and_messages():
    messages = [{"role": "user", "content": "x"}]
    assert read({"prompt": None, "messages": messages, "body": None, "custom_id": "a"}).messages == messages
    assert read({"prompt": "x", "messages": None, "id": None}).prompt == "x"
    neither = read({"prompt": None, "messages": None, "text": "x"})
    assert (neither.code, neither.message) == (ErrorCode.MISSING_PROMPT, "no 'prompt' among the fields ['text']")


def test_whole_number_written_as_a_float_is_the_same_id():
    first, second, third = read({"id": 1.0, "prompt": "x"}, {"id": "1", "prompt": "x"}, {"id": -2e3, "prompt": "x"})
    assert (first.id, second.code, third.id) == ("1", ErrorCode.DUPLICATE_ID, "-2000")


def test_openai_chat_line():
    row = read(OPENAI_CHAT)
    assert (row.id, row.endpoint, row.raw) == ("request-1", "/v1/chat/completions", False)
    assert row.messages == OPENAI_CHAT["body"]["messages"]
    assert row.decoding.max_new_tokens == 1000


def test_openai_completions_line_stays_raw_and_honours_its_fields():
    row = read(OPENAI_COMPLETION)
    assert (row.id, row.endpoint, row.raw, row.prompt) == ("request-2", "/v1/completions", True, "Say this is a test")
    assert (row.decoding.max_new_tokens, row.decoding.temperature, row.decoding.stop) == (7, 0.5, ["\n"])
    listed = {**OPENAI_COMPLETION, "body": {"prompt": ["one"]}}
    assert read(listed).prompt == "one"


def test_openai_fields_that_change_nothing_are_passed_over_and_others_refused():
    def with_body(**fields):
        return {**OPENAI_CHAT, "body": {**OPENAI_CHAT["body"], **fields}}

    neutral = {"n": 1, "stream": False, "user": "u", "presence_penalty": 0, "logprobs": None, "tools": []}
    assert isinstance(read(with_body(**neutral)), Row)
    assert refused(with_body(best_of=2)) is ErrorCode.UNSUPPORTED_OPTION
    assert refused(with_body(prompt_logprobs=True)) is ErrorCode.INVALID_FIELD
    assert refused(with_body(response_format={"type": "xml"})) is ErrorCode.UNSUPPORTED_OPTION
    assert refused(with_body(max_token=3)) is ErrorCode.UNKNOWN_FIELD
    assert read(with_body(chat_template_kwargs={"enable_thinking": False})).enable_thinking is False
    assert refused(with_body(chat_template_kwargs={"enable_thinking": 1})) is ErrorCode.INVALID_FIELD
    assert refused(with_body(chat_template_kwargs={"messages": 1})) is ErrorCode.UNSUPPORTED_OPTION


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"url": "/v1/embeddings"}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"method": "GET"}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"body": "text"}, ErrorCode.INVALID_FIELD),
        ({"body": {"model": "m"}}, ErrorCode.MISSING_PROMPT),
        ({"url": "/v1/completions", "body": {"prompt": ["a", "b"]}}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"url": "/v1/completions", "body": {"prompt": [1, 2]}}, ErrorCode.UNSUPPORTED_REQUEST),
    ],
)
def test_bad_openai_line_keeps_its_custom_id_and_form(change, code):
    bad = read({**OPENAI_CHAT, **change})
    assert (bad.code, bad.id) == (code, "request-1")
    assert bad.endpoint in {"/v1/chat/completions", "/v1/completions"}


def test_text_file_lines_are_prompts_as_they_stand():
    reader = RowReader(row_rules(BASE))
    row = reader.read(RawRow(0, 1, b'{"prompt": 1} \xe4\xbd\xa0', is_text=True))
    assert row.prompt == '{"prompt": 1} 你'
    assert reader.read(RawRow(1, 2, b"\xff", is_text=True)).code is ErrorCode.INVALID_ENCODING


def test_format_of_the_spec_is_kept_to():
    assert refused({"prompt": "x"}, format="messages") is ErrorCode.INVALID_FIELD
    assert refused({"prompt": "x"}, format="openai") is ErrorCode.INVALID_FIELD
    assert refused({"messages": [{"role": "user", "content": "x"}]}, prompt_field="prompt") is ErrorCode.MISSING_PROMPT


def test_fields_are_named_by_the_spec():
    rules = {"prompt_field": "question", "id_field": "nr", "answer_field": "label"}
    row = read({"nr": 7, "question": "q", "label": 4.5}, **rules)
    assert (row.id, row.prompt, row.answer) == ("7", "q", "4.5")
    assert read({"question": "q", "label": None}, **rules).answer is None
    assert read({"question": "q", "label": "B"}, **rules).answer == "B"
    assert refused({"question": "q", "label": ["B"]}, **rules) is ErrorCode.INVALID_FIELD


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b'{"prompt": "x"', ErrorCode.INVALID_JSON),
        (b'{"prompt": "x", "score": NaN}', ErrorCode.INVALID_JSON),
        (b'{"prompt": "x", "score": 1e999}', ErrorCode.INVALID_JSON),
        (b'{"prompt": ' + b"[" * 100_000, ErrorCode.INVALID_JSON),
        (b'{"prompt": "x", "n": ' + b"9" * 5000 + b"}", ErrorCode.INVALID_JSON),
        (b'{"prompt": "\xff"}', ErrorCode.INVALID_ENCODING),
        (b'\xff\xfe{\x00"\x00', ErrorCode.INVALID_ENCODING),
        (rb'{"prompt": "\ud800"}', ErrorCode.INVALID_ENCODING),
        (rb'{"id": "\uDC00", "prompt": "x"}', ErrorCode.INVALID_ENCODING),
        (b"[1]", ErrorCode.INVALID_ROW),
        (b'"text"', ErrorCode.INVALID_ROW),
        ({"text": "x"}, ErrorCode.MISSING_PROMPT),
        ({"prompt": 5}, ErrorCode.INVALID_FIELD),
        ({"prompt": " \n"}, ErrorCode.EMPTY_PROMPT),
        ({"messages": []}, ErrorCode.EMPTY_PROMPT),
        ({"messages": [{"role": "user", "content": " "}]}, ErrorCode.EMPTY_PROMPT),
        ({"messages": {"role": "user"}}, ErrorCode.INVALID_FIELD),
        ({"messages": ["x"]}, ErrorCode.INVALID_FIELD),
        ({"messages": [{"role": "robot", "content": "x"}]}, ErrorCode.INVALID_FIELD),
        ({"messages": [{"role": ["user"], "content": "x"}]}, ErrorCode.INVALID_FIELD),
        ({"messages": [{"role": "user", "content": None}]}, ErrorCode.INVALID_FIELD),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            ErrorCode.UNSUPPORTED_REQUEST,
        ),
        ({"id": ["a"], "prompt": "x"}, ErrorCode.INVALID_FIELD),
        ({"id": True, "prompt": "x"}, ErrorCode.INVALID_FIELD),
        ({"id": "", "prompt": "x"}, ErrorCode.INVALID_FIELD),
        ({"id": "a" * 513, "prompt": "x"}, ErrorCode.INVALID_FIELD),
        ({"id": 10**100, "prompt": "x"}, ErrorCode.INVALID_FIELD),
        ({"id": 1.5, "prompt": "x"}, ErrorCode.INVALID_FIELD),
        ({"id": 1e300, "prompt": "x"}, ErrorCode.INVALID_FIELD),
        ({"prompt": "x", "temperature": -1}, ErrorCode.INVALID_FIELD),
        ({"prompt": "x", "temperature": 10**400}, ErrorCode.INVALID_FIELD),
        ({"prompt": "x", "seed": 10**30}, ErrorCode.INVALID_FIELD),
        ({"prompt": "x", "max_tokens": "5"}, ErrorCode.INVALID_FIELD),
        ({"prompt": "x", "stop": [""]}, ErrorCode.INVALID_FIELD),
        ({"prompt": "x", "max_tokens": 5, "maxNewTokens": 6}, ErrorCode.INVALID_FIELD),
        ({"prompt": "x", "max_new_token": 5}, ErrorCode.UNKNOWN_FIELD),
    ],
)
def test_bad_row_has_its_code_and_a_sentence(row, code):
    bad = read(row)
    assert isinstance(bad, BadRow)
    assert bad.code is code
    assert bad.message
    assert "\n" not in bad.message
    assert len(bad.message) < 400


def test_surrogate_pair_in_escapes_is_one_good_character():
    assert read(rb'{"prompt": "\ud83d\ude00"}').prompt == "😀"


def test_line_over_the_limit_is_an_error_row(tmp_path, monkeypatch):
    monkeypatch.setattr("specbatch.runner.dataset.readers.MAX_LINE_BYTES", 100)
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "a"}\n\n{"prompt": "%s"}\n' % (b"b" * 200))
    _, raw = dataset_at(tmp_path / "rows.jsonl").rows()
    bad = RowReader(row_rules(BASE)).read(raw)
    assert (bad.code, bad.index, bad.line_number) == (ErrorCode.LINE_TOO_LONG, 1, 3)


def test_overrides_in_every_spelling():
    spellings = [
        {"maxNewTokens": 5, "topP": 0.5, "topK": 3, "ignoreEos": True},
        {"max_new_tokens": 5, "top_p": 0.5, "top_k": 3, "ignore_eos": True},
        {"max_tokens": 5, "top_p": 0.5, "top_k": 3, "ignore_eos": True},
        {"max_completion_tokens": 5, "max_tokens": 5, "top_p": 0.5, "top_k": 3, "ignore_eos": True},
    ]
    common = {"prompt": "x", "temperature": 1, "seed": 9, "stop": ["a", "b"]}
    rows = read(*({**common, **spelling} for spelling in spellings))
    assert len({row.fingerprint for row in rows}) == 1
    decoding = rows[0].decoding
    assert (decoding.max_new_tokens, decoding.top_p, decoding.top_k, decoding.ignore_eos) == (5, 0.5, 3, True)
    assert (decoding.temperature, decoding.seed, decoding.stop) == (1.0, 9, ["a", "b"])
    assert read({"prompt": "x", "temperature": None, "seed": None}).decoding == BASE


def test_second_row_of_an_id_is_refused_even_after_a_bad_first():
    first, second, third = read({"id": "a", "prompt": ""}, {"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x"})
    assert (first.code, second.code) == (ErrorCode.EMPTY_PROMPT, ErrorCode.DUPLICATE_ID)
    assert isinstance(third, Row)
    assert second.fingerprint != first.fingerprint


def test_duplicates_of_other_shards_are_known():
    reader = RowReader(row_rules(BASE))
    reader.claim(RawRow(0, 1, b'{"id": "a", "prompt": "x"}'))
    reader.claim(RawRow(1, 2, b"broken"))
    assert reader.read(RawRow(2, 3, b'{"id": "a", "prompt": "y"}')).code is ErrorCode.DUPLICATE_ID


def test_same_rows_without_ids_get_different_ids_that_stay_the_same():
    first, second = read({"prompt": "x"}, {"prompt": "x"})
    assert first.id != second.id
    assert read({"prompt": "x"}, {"prompt": "x"})[1].id == second.id


def test_fingerprint_changes_with_whatever_changes_the_completion_and_nothing_else():
    same = {"id": "a", "prompt": "x"}
    print_ = read(same).fingerprint
    assert read({**same, "category": "c"}).fingerprint == print_
    assert read(same, decoding=BASE.model_copy(update={"num_speculative_tokens": 3})).fingerprint == print_
    others = [
        read({**same, "prompt": "y"}),
        read({**same, "seed": 1}),
        read({"id": "a", "messages": [{"role": "user", "content": "x"}]}),
        read(same, salt="another model"),
        read(same, decoding=BASE.model_copy(update={"max_new_tokens": 65})),
    ]
    assert len({print_, *(row.fingerprint for row in others)}) == 6


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KNOWN_NAMES = (
    "prompt messages custom_id id method url body role content stop seed temperature max_tokens topP top_k ignoreEos answer "
    "chat_template_kwargs n tools logit_bias"
)
known_names = st.sampled_from(KNOWN_NAMES.split())
row_like = st.recursive(
    json_values | st.sampled_from(["user", "/v1/chat/completions", "/v1/completions", "POST", "x"]),
    lambda inner: st.dictionaries(known_names, inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=400)
@given(st.lists(st.binary(max_size=60) | row_like.map(lambda value: json.dumps(value).encode()), max_size=6))
def test_whatever_a_file_holds_becomes_rows_or_bad_rows(lines):
    reader = RowReader(row_rules(BASE, answer_field="answer"))
    for line in read_lines(iter([b"\n".join(lines)]), 1000):
        for is_text in (False, True):
            reading = reader.read(RawRow(line.number, line.number, line.data, None, is_text))
            assert isinstance(reading, Row | BadRow)
            assert reading.id
            reading.id.encode()


def test_the_fingerprint_of_a_row_changes_only_with_its_version():
    """A restart after an upgrade knows finished rows by it: a change must count FINGERPRINT_VERSION up."""
    assert FINGERPRINT_VERSION == 2
    assert read({"id": "a", "prompt": "hello"}, salt="s").fingerprint == "c5340aac8bfec094cb77894c"
