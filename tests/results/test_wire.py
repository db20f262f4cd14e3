import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.results.rows import ErrorCode, ErrorRow, OpenAIForm, ResultRow, Speculation, Usage, resume_key
from specbatch.results.wire import decode_error, decode_result, encode_error, encode_result
from tests.results.builders import make_error, make_row

counts = st.integers(0, 1 << 40)
any_text = st.text(st.characters(exclude_categories=[]))  # lone surrogates too


def as_json_reads_it(text):
    """A high and a low surrogate in a row are one character to every JSON reader."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


texts = any_text.map(as_json_reads_it)
json_values = st.recursive(
    st.none() | st.booleans() | counts | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)
)
columns = st.none() | st.dictionaries(
    texts, json_values | st.floats(allow_nan=False, allow_infinity=False) | st.integers()
)
forms = st.none() | st.builds(
    OpenAIForm, model=texts, created=counts, endpoint=st.sampled_from(["/v1/chat/completions", "/v1/completions"])
)
results = st.builds(
    ResultRow,
    id=texts,
    index=counts,
    fingerprint=st.text("0123456789abcdef"),
    text=texts,
    finish_reason=st.sampled_from(["stop", "length"]),
    usage=st.builds(Usage, prompt_tokens=counts, completion_tokens=counts),
    speculation=st.builds(Speculation, rounds=counts, drafted=counts, accepted=counts),
    prompt=json_values,
    answer=st.none() | texts,
    correct=st.none() | st.booleans(),
    columns=columns,
    openai=forms,
)
errors = st.builds(
    ErrorRow,
    id=texts,
    index=counts,
    fingerprint=st.text("0123456789abcdef"),
    code=st.sampled_from(ErrorCode),
    message=texts,
    line=st.none() | counts,
    columns=columns,
    openai=forms,
)


@pytest.mark.slow
@given(results)
def test_a_result_row_comes_back_from_one_line_of_utf8(row):
    line = encode_result(row)
    line.decode("utf-8")
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_result(line) == row


@pytest.mark.slow
@given(errors)
def test_an_error_row_comes_back_from_one_line_of_utf8(row):
    line = encode_error(row)
    line.decode("utf-8")
    assert line.count(b"\n") == 1
    assert decode_error(line) == row


@given(any_text, any_text)
def test_the_resume_key_is_the_same_before_and_after_the_file(row_id, fingerprint):
    row = make_row(0, id=row_id, fingerprint=fingerprint)
    back = decode_result(encode_result(row))
    assert resume_key(back.id, back.fingerprint) == resume_key(row_id, fingerprint)


def test_the_resume_key_tells_where_the_id_ends():
    assert resume_key("ab", "c") != resume_key("a", "bc")
    assert len(resume_key("", "")) == 16


def test_text_is_readable_in_the_file():
    assert "答案是 42 🙂".encode() in encode_result(make_row(0, text="答案是 42 🙂"))


def test_a_lone_surrogate_stays_an_escape():
    line = encode_result(make_row(0, text="half \ud83d of it"))
    assert b"half \\ud83d of it" in line
    assert json.loads(line)["text"] == "half \ud83d of it"


def test_a_result_row_has_the_documented_fields_and_no_empty_ones():
    assert json.loads(encode_result(make_row(3))) == {
        "id": "row-3",
        "index": 3,
        "text": "The answer is 3.",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 23, "completion_tokens": 13},
        "speculation": {"rounds": 4, "drafted": 16, "accepted": 11},
        "fingerprint": "0000000000000003",
    }
    scored = json.loads(encode_result(make_row(3, prompt="2+1?", answer="3", correct=False)))
    assert (scored["prompt"], scored["answer"], scored["correct"]) == ("2+1?", "3", False)


def test_openai_input_gets_a_chat_completion():
    row = make_row(3, openai=OpenAIForm(model="Qwen/Qwen3-8B", created=1_700_000_000))
    value = json.loads(encode_result(row))
    assert set(value) == {"id", "custom_id", "response", "error", "specbatch"}
    assert value["id"].startswith("batch_req_")
    assert value["custom_id"] == "row-3"
    assert value["error"] is None
    assert value["response"]["status_code"] == 200
    body = value["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["model"] == "Qwen/Qwen3-8B"
    assert body["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "The answer is 3.", "refusal": None},
        }
    ]
    assert body["usage"] == {"prompt_tokens": 23, "completion_tokens": 13, "total_tokens": 36}


def test_openai_completions_get_a_text_completion():
    row = make_row(3, openai=OpenAIForm(model="m", endpoint="/v1/completions"))
    body = json.loads(encode_result(row))["response"]["body"]
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == "The answer is 3."


def test_openai_errors_have_no_response_and_a_code():
    value = json.loads(encode_error(make_error(3, openai=OpenAIForm(model="m"))))
    assert value["response"] is None
    assert value["error"] == {"code": "invalid_json", "message": "expected a comma at column 12"}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"id": 1, "index": 0}',
        b'{"custom_id": "a"}',
        b'{"custom_id": "a", "specbatch": null, "response": null, "error": null}',
        b'{"id": "a", "index": 0, "fingerprint": "", "text": "", "finish_reason": "", "usage": {}, "speculation": 3}',
        b"\xff\xfe",
        b"\0" * 4096,
        b"[" * 100_000,
        b"1" * 10_000,
        encode_result(make_row(0))[:-3],
        encode_result(make_row(0)).replace(b'"id": "', b'"id": 7, "x": "'),
        encode_result(make_row(0, openai=OpenAIForm(model="m"))).replace(b'"choices"', b'"chances"'),
    ],
)
def test_what_is_no_row_is_a_value_error(line):
    for decode in (decode_result, decode_error):
        with pytest.raises(ValueError, match=r"."):
            decode(line)


def test_an_error_code_that_is_not_in_the_table_is_no_row():
    line = encode_error(make_error(1)).replace(b"invalid_json", b"made_up_code")
    with pytest.raises(ValueError, match="made_up_code"):
        decode_error(line)


def test_every_error_code_is_snake_case_and_explained():
    for code in ErrorCode:
        assert code.value == code.name.lower()
        assert code.meaning


def test_rows_of_openais_form_carry_columns_under_our_key():
    form = OpenAIForm(model="m")
    result, error = make_row(0, columns={"a": None}, openai=form), make_error(0, columns={"a": None}, openai=form)
    assert [json.loads(line)["specbatch"]["columns"] for line in (encode_result(result), encode_error(error))] == [
        {"a": None}
    ] * 2


def test_numbers_of_any_size_in_a_stored_prompt_come_back():
    row = make_row(0, prompt=[{"content": 12345678901234567890123, "x": None}])
    assert decode_result(encode_result(row)) == row
