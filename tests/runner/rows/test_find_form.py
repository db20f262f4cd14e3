import json

import pytest

from specbatch.api import DecodingSpec
from specbatch.errors import DatasetError
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.find_form import Head, find_form
from specbatch.runner.rows.form_text import form_sentence
from specbatch.runner.rows.forms import FormName, RowRules
from specbatch.runner.rows.row import BadRow
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import row_rules

ASKED = {"role": "user", "content": "Why?"}
ANSWERED = {"role": "assistant", "content": "So."}
SHAREGPT = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Hi"},
    {"from": "gpt", "value": "Hello"},
    {"from": "human", "value": "Why?"},
    {"from": "gpt", "value": "So."},
]
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    ASKED,
]


class Found:
    """What was found of some rows: their form, what is said of it, the rows as read; or the error."""

    def __init__(self, rows, **dataset):
        spec = row_rules(**dataset).dataset
        raws = [
            RawRow(at, at + 1, row if isinstance(row, bytes) else json.dumps(row).encode())
            for at, row in enumerate(rows)
        ]
        head = Head.of(raws, spec.ignore_fields)
        self.form = find_form(spec, head)
        self.sentence = form_sentence(spec, self.form, head)
        reader = RowReader(RowRules(DecodingSpec(), spec, found=self.form))
        self.rows = [reader.read(raw) for raw in raws]


def refused(rows, **dataset):
    with pytest.raises(DatasetError) as caught:
        Found(rows, **dataset)
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "asked", "columns", "answer"),
    [
        ({"prompt": "Why?", "completion": "So."}, "Why?", {"completion": "So."}, None),
        ({"question": "Why?", "answer": "So."}, "Why?", {"answer": "So."}, None),
        ({"text": "Why?", "label": 1}, "Why?", {"label": 1}, None),
        ({"messages": [ASKED], "source": "web"}, [ASKED], {"source": "web"}, None),
        ({"messages": [ASKED, ANSWERED]}, [ASKED], None, "So."),
        ({"prompt": [ASKED], "chosen": [ANSWERED]}, [ASKED], {"chosen": [ANSWERED]}, None),
        ({"conversations": SHAREGPT, "id": "a"}, CONVERSATION, None, "So."),
        ({"conversation": [ASKED, ANSWERED], "model": "vicuna"}, [ASKED], {"model": "vicuna"}, "So."),
        ({"instruction": "Add.", "input": "1, 2", "output": "3"}, "Add.\n\n1, 2", {"output": "3"}, None),
        (
            {"instruction": "Add.", "input": "", "output": "3", "text": "Add. 3"},
            "Add.",
            {"output": "3", "text": "Add. 3"},
            None,
        ),
        ({"instruction": "Add.", "context": "1, 2", "response": "3"}, "Add.\n\n1, 2", {"response": "3"}, None),
        ({"custom_id": "a", "body": {"messages": [ASKED]}}, [ASKED], None, None),
    ],
    ids=str,
)
def test_forms_are_found_and_answers_that_come_along_are_not_shown_to_the_model(row, asked, columns, answer):
    found = Found([row, {**row, "id": 2, "custom_id": 2}])
    read = found.rows[0]
    assert (read.prompt or read.messages, read.columns, read.answer) == (asked, columns, answer)
    if columns:
        assert f"into the results, not shown to the model: {', '.join(columns)}" in found.sentence
    if answer:
        assert "the assistant's turn at the end (2 of the 2 rows looked at) is not shown to the model" in found.sentence


@pytest.mark.parametrize(
    ("row", "choices"),
    [
        ({"prompt": "a", "question": "b"}, ["dataset.promptField=prompt", "dataset.promptField=question"]),
        ({"prompt": "a", "messages": [ASKED]}, ["dataset.promptField=prompt", "dataset.format=messages"]),
        ({"instruction": "a", "text": "b"}, ["dataset.format=alpaca", "dataset.promptField=text"]),
        ({"conversations": SHAREGPT, "messages": [ASKED]}, ["dataset.format=sharegpt", "dataset.format=messages"]),
        (
            {"question": "a", "context": "b"},
            ["dataset.promptField=question", """'dataset.template="{{ context }}\\n\\n{{ question }}"'"""],
        ),
    ],
    ids=str,
)
def test_where_several_fit_each_is_shown_with_the_set_that_picks_it(row, choices):
    message = refused([row])
    assert all(f"--set {choice}" in message for choice in choices)


@pytest.mark.parametrize(
    "choice", [{"prompt_field": "prompt"}, {"prompt_field": "question"}, {"template": "{{ question }}"}]
)
def test_a_choice_of_the_spec_decides(choice):
    row = Found([{"prompt": "a", "question": "b"}], **choice).rows[0]
    assert row.prompt == ("a" if choice.get("prompt_field") == "prompt" else "b")


def test_a_dataset_without_a_prompt_is_refused_with_its_columns_and_what_could_be_one():
    message = refused([{"turns": ["a", "b"], "title": "t", "n": 3}])
    assert "['turns', 'title', 'n']" in message
    assert "--set 'dataset.template={{ turns[0] }}'" in message
    assert "--set dataset.promptField=title" in message
    assert "promptField=n" not in message
    assert "--set 'dataset.promptField=Review Text'" in refused([{"Review Text": "a", "x" * 5000: "b"}])
    assert len(Found([{"prompt": "a", "x" * 5000: "b"}]).sentence) < 200


@pytest.mark.parametrize(
    "said", [{"prompt_field": "prompts"}, {"format": "messages"}, {"format": "alpaca"}, {"format": "sharegpt"}]
)
def test_a_column_that_the_spec_counts_on_and_no_row_has_is_refused_at_the_start(said):
    message = refused([{"prompt": "a"}, {"prompt": "b"}], **said)
    assert "none of the 2 rows looked at has such a column" in message
    assert ("did you mean prompt?" in message) == ("prompt_field" in said)


def test_a_few_rows_of_another_form_are_error_rows_and_many_are_a_question():
    few = Found([{"prompt": "a"}] * 19 + [{"question": "b"}])
    assert (few.form.name, few.rows[-1].code) == (FormName.REQUESTS, "missing_prompt")
    assert "in 2 of the 4 rows looked at" in refused([{"prompt": "a"}, {"question": "b"}] * 2)
    beside = Found([{"question": "a"}, {"question": "a", "text": "b"}])
    assert [row.prompt for row in beside.rows] == ["a", "a"]


def test_prompts_messages_and_requests_may_stand_in_one_file():
    found = Found([{"prompt": "a"}, {"messages": [ASKED]}, {"custom_id": "x", "body": {"messages": [ASKED]}}])
    assert not any(isinstance(row, BadRow) for row in found.rows)
    assert found.sentence.startswith("prompt or messages or requests of OpenAI's batch API")


def test_a_row_that_ends_with_an_answer_is_refused_where_the_first_rows_end_with_questions():
    rows = [{"id": at, "messages": [ASKED]} for at in range(100)]
    assert Found([*rows, {"messages": [ASKED, ANSWERED]}]).rows[-1].code == "unsupported_request"
    only_answers = Found([{"messages": [ANSWERED]}, {"messages": [ASKED, ANSWERED]}]).rows
    assert only_answers[0].code == "empty_prompt"


def test_rows_that_are_nested_too_deeply_are_error_rows_and_no_crash():
    deep = b"[" * 900 + b"]" * 900
    found = Found([b'{"prompt": "a", "x": ' + deep + b"}", {"prompt": "b", "y": 1}])
    assert [row.code if isinstance(row, BadRow) else row.prompt for row in found.rows] == ["invalid_row", "b"]
    assert found.sentence.endswith(": y")
    assert "no prompt is found" in refused([b'{"z": "text", "x": ' + deep + b"}"])


def test_null_is_no_column_and_bad_lines_decide_nothing():
    found = Found([b"{", b"[1]", {"prompt": None, "question": "a"}, {"prompt": None, "question": "b"}])
    assert [row.prompt for row in found.rows[2:]] == ["a", "b"]
    assert Found([b"{"]).rows[0].code == "invalid_json"


def test_carried_answers_obey_the_spec():
    assert Found([{"messages": [ASKED, ANSWERED]}], columns={"carry": "none"}).rows[0].answer is None
    own = Found([{"messages": [ASKED, ANSWERED], "gold": 4}], answer_field="gold").rows[0]
    assert (own.answer, own.columns) == ("4", None)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"conversations": [{"from": "alien", "value": "a"}]}, "invalid_field"),
        ({"conversations": [{"from": "human"}]}, "invalid_field"),
        ({"conversations": [{"from": "human", "value": "a", "image": "x"}]}, "unsupported_request"),
        ({"conversations": [{"from": "human", "value": 3}]}, "invalid_field"),
        ({"conversations": ["a"]}, "invalid_field"),
        ({"conversations": [{"from": ["human"], "value": "a"}]}, "invalid_field"),
        ({"instruction": "a", "input": 3}, "invalid_field"),
        ({"instruction": " ", "input": ""}, "empty_prompt"),
        ({"instruction": "a", "history": [["b", "c"]]}, "unsupported_request"),
    ],
    ids=str,
)
def test_what_training_sets_hold_and_is_not_read_is_refused(row, code):
    assert Found([row]).rows[0].code == code
