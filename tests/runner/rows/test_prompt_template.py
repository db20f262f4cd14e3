import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.api.dataset import DatasetSpec
from specbatch.errors import DatasetError
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.find_form import Head, find_form
from specbatch.runner.rows.prompt_template import PromptTemplate
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import row_rules

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
MESSAGES = [
    {"role": "system", "content": "{{ tone | default('') }}"},
    {"role": "user", "content": "{{ question }}"},
    {"role": "assistant", "content": "{{ start or '' }}"},
]


def read(row, template, **dataset):
    line = row if isinstance(row, bytes) else json.dumps(row).encode()
    return RowReader(row_rules(template=template, **dataset)).read(RawRow(0, 1, line, is_text=isinstance(row, bytes)))


def refused(row, template, **dataset):
    bad = read(row, template, **dataset)
    return bad.code, bad.message


@pytest.mark.slow
@given(values)
def test_any_value_is_written_as_text_or_json_and_never_run_as_a_template(value):
    template = PromptTemplate("value: {{ row['my column'] }}")
    columns = {"my column": value}
    if value is None:
        with pytest.raises(RowError, match="null"):
            template.render(columns)
    else:
        assert template.render(columns) == "value: " + (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        )


@pytest.mark.parametrize("text", ["{{ ().__class__ }}", "{% for i in range(10**9) %}{% endfor %}", "{# x #}", "{{ q"])
def test_templates_within_a_row_stay_text(text):
    assert read({"q": text}, "{{ q }}").prompt == text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ a }}{{ ().__class__.__mro__ }}", "unsafe"),
        ("{{ a.__class__.__init__.__globals__ }}", "unsafe"),
        ("{{ a }}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "loops over more"),
        ("{{ a }}{% for i in range(10 ** 9) %}{% endfor %}", "loops over more"),
        ("{{ a }}{{ 'x' * 10 ** 10 }}", "too large"),
        ("{{ a }}{{ 9 ** 9999 }}", "too large"),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}{{ a }}", "more than 16,777,216 characters"),
        ("{{ a }}{{ 1 / 0 }}", "division by zero"),
        ("{{ a }}{{ a.b.c }}", "has no attribute 'b'"),
        ("{{ b }}", "'b' is undefined; the row has the columns ['a', 'c']"),
        ("{{ c }}", "(c is null)"),
    ],
)
def test_a_template_that_fails_or_runs_away_is_the_rows_error(template, reason):
    code, message = refused({"a": "x", "c": None}, template)
    assert code == "template"
    assert reason in message


def test_an_empty_prompt_is_the_rows_error():
    assert refused({"a": " "}, "{{ a }}")[0] == "empty_prompt"
    assert refused({"question": "", "start": None}, MESSAGES)[0] == "empty_prompt"


def test_a_list_of_messages_is_a_conversation_and_empty_ones_of_others_are_left_out():
    assert read({"question": "Why?", "start": None}, MESSAGES).messages == [{"role": "user", "content": "Why?"}]
    full = read({"question": "Why?", "start": "Well,", "tone": "Be brief."}, MESSAGES).messages
    assert [(one["role"], one["content"]) for one in full] == [
        ("system", "Be brief."),
        ("user", "Why?"),
        ("assistant", "Well,"),
    ]


def test_a_column_that_the_template_names_is_data_whatever_it_is_called():
    row = read({"input": "a", "max_tokens": 5, "tools": "hammer", "kind": "x"}, "{{ input }} {{ tools }}")
    assert (row.prompt, row.decoding.max_new_tokens, row.columns) == ("a hammer", 5, {"kind": "x"})
    assert read({"a": "x", "system": "Be brief."}, "{{ a }}").messages[0] == {"role": "system", "content": "Be brief."}
    assert refused({"question": "a", "start": "", "tone": "x", "system": "y"}, MESSAGES)[0] == "invalid_field"


def test_lines_of_text_are_the_column_text_and_rows_with_a_body_are_data():
    assert read(b"Why?", "Q: {{ text }}").prompt == "Q: Why?"
    row = read({"custom_id": "x", "body": {"a": "b"}}, "{{ body.a }}")
    assert (row.id, row.prompt, row.endpoint) == ("x", "b", None)


def test_the_prompts_text_is_what_a_row_is_known_by():
    one, same, other = (read({"a": "x"}, template) for template in ("{{ a }}", "{{ a | trim }}", "{{ a }}!"))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.id == other.id


@pytest.mark.parametrize(
    ("template", "found"), [("{{ qestion }}", "did you mean question?"), ("{{ a }}{{ b }}", "'b'")]
)
def test_a_column_that_no_row_has_is_found_at_the_start(template, found):
    spec = DatasetSpec(uri="rows.jsonl", template=template)
    head = Head([{"question": "x", "a": None}])
    with pytest.raises(DatasetError) as caught:
        find_form(spec, head)
    assert found in str(caught.value)
    for asked in ("{{ b | default('x') }}", "{% if b is defined %}{{ b }}{% endif %}{{ a }}", "{{ row.b }}"):
        assert find_form(DatasetSpec(uri="x", template=asked), head).name == "template"
