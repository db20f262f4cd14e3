import json
import os

import pytest

from specbatch.errors import DatasetError
from specbatch.runner.peek.encoding import make_encoding, no_encoding
from specbatch.runner.peek.peek import peek
from specbatch.runner.peek.text import render_peek
from tests.runner.tiny import write_rows

NOTHING = no_encoding("no model")


@pytest.fixture
def look(make_job):
    """look(rows or a path, "path=value", ...) -> what is found, with the tiny target's tokenizer."""

    def found(rows, *overrides, shown=3):
        spec = make_job(rows, *overrides).spec
        return peek(spec, make_encoding(spec, os.environ, print), shown)

    return found


def test_a_row_is_shown_as_the_model_will_see_it(look, tokenizer):
    row = {"id": "a", "question": "Why?", "kind": "x", "max_tokens": 5, "gold": 4}
    found = look([row] + [{**row, "id": at} for at in range(4)], "dataset.answerField=gold", "dataset.systemPrompt=Hm.")
    assert (
        found.shown[0].text
        == "<|im_start|>system\nHm.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert found.shown[0].tokens == len(tokenizer(found.shown[0].text)["input_ids"])
    assert (len(found.shown), found.shown[0].answer, found.shown[0].columns) == (3, "4", {"kind": "x"})
    uses = {column.name: (column.types, column.use) for column in found.columns}
    assert uses["id"] == (("string", "integer"), "id")
    assert [uses[name][1] for name in ("question", "kind", "max_tokens", "gold")] == [
        "prompt",
        "carried",
        "option",
        "answer",
    ]
    assert (found.rows, found.rows_exact, found.looked_at, found.refused) == (5, True, 5, [])


def test_what_would_be_refused_is_named_with_its_reason(look):
    rows = [{"prompt": "a"}, {"prompt": " "}, b"{", {"prompt": "x" * 200}, {"prompt": "a", "best_of": 2}]
    found = look(rows, "batching.maxLength=64")
    assert [(row.index, row.line, row.code) for row in found.refused] == [
        (1, 2, "empty_prompt"),
        (2, 3, "invalid_json"),
        (3, 4, "prompt_too_long"),
        (4, 5, "unsupported_option"),
    ]
    text = render_peek(found)
    assert "refused     4 of the first 5 rows:" in text
    assert "1 x empty_prompt, as line 2: prompt is empty" in text


def test_where_the_form_cannot_be_decided_the_columns_are_shown_all_the_same(look):
    found = look([{"prompt": "a", "question": "b"}])
    assert isinstance(found.problem, DatasetError)
    assert [column.name for column in found.columns] == ["prompt", "question"]
    assert (found.prompts, found.shown, found.refused) == ("", [], [])
    json.dumps(found.to_json())


@pytest.mark.slow
def test_the_number_of_rows_is_exact_or_said_to_be_an_estimate(look, tmp_path):
    rows = [{"prompt": f"{at:04}", "more": None} for at in range(3000)]
    found = look(rows, shown=0)
    assert (found.looked_at, found.rows_exact) == (1000, False)
    assert 2900 < found.rows < 3100
    assert "about 3,0" in render_peek(found) or "about 2,9" in render_peek(found)
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"prompt": [row["prompt"] for row in rows]}), tmp_path / "rows.parquet")
    found = look(tmp_path / "rows.parquet", shown=0)
    assert (found.kind, found.rows, found.rows_exact, found.looked_at) == ("Parquet", 3000, True, 1000)


def test_without_a_tokenizer_rows_are_shown_and_not_counted(make_job, tmp_path):
    spec = make_job([{"messages": [{"role": "user", "content": "Why?"}]}], f"target.model={tmp_path / 'none'}").spec
    encoding = make_encoding(spec, os.environ, print)
    found = peek(spec, encoding, 1)
    assert "no tokenizer, so no tokens are counted" in found.template
    assert (found.shown[0].text, found.shown[0].tokens) == ("user: Why?", None)


def test_a_long_prompt_is_cut_for_people_and_whole_for_programs(make_job, tmp_path):
    found = peek(make_job([{"prompt": "a" * 5000}]).spec, NOTHING, 1)
    assert "[... 3,400 characters more ...]" in render_peek(found)
    assert len(found.to_json()["shown"][0]["text"]) == 5000


def test_a_file_that_breaks_off_is_shown_up_to_there(make_job, tmp_path):
    import gzip

    whole = gzip.compress(write_rows(tmp_path / "rows.jsonl", [{"prompt": "a"}] * 3).read_bytes() + b" " * 3_000_000)
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[:-10])
    found = peek(make_job(tmp_path / "rows.jsonl.gz").spec, NOTHING, 1)
    assert (found.looked_at, len(found.shown)) == (3, 1)
    assert "ends in the middle" in str(found.problem)


def test_lines_of_text_have_no_columns(make_job, tmp_path):
    (tmp_path / "prompts.txt").write_text("Why?\nHow?\n")
    found = peek(make_job(tmp_path / "prompts.txt").spec, NOTHING, 1)
    assert (found.kind, found.prompts, found.columns) == ("text, a prompt a line", "every line is one", [])


WHOLE = ("dataset.chatTemplate=none", "batching.maxLength=400")
DOCUMENT = "word " * 40


def test_what_prompts_begin_with_alike_is_counted_in_pages_of_64_tokens(look):
    rows = [{"prompt": f"{DOCUMENT}{end}"} for end in ("a", "b", "c")] + [{"prompt": "alone", "n": 2, "temperature": 1}]
    found = look(rows, *WHOLE)
    tokens = found.shown[0].tokens
    length = (tokens - 2) // 64 * 64
    assert (found.sharing.unit, found.sharing.shared) == ("tokens", 2 * length)
    assert found.sharing.total > 3 * tokens
    assert [(one.prompts, one.row, one.length) for one in found.sharing.beginnings] == [(3, 0, length)]
    text = render_peek(found)
    share = f"({2 * length} of {found.sharing.total})"
    assert (
        f"of the prompt tokens of the first 4 rows {share}: earlier rows begin with them, so they are not computed again"
        in text
    )
    assert f"3 prompts (row 0 is the first) begin with the same {length} tokens" in text
    assert "shared      " not in render_peek(look([{"prompt": "alone"}]))


def test_completions_of_a_row_share_its_prompt(look):
    sharing = look([{"prompt": DOCUMENT, "n": 2, "temperature": 1}], *WHOLE).sharing
    assert (sharing.shared, [one.prompts for one in sharing.beginnings]) == (64, [2])


def test_rows_of_a_document_are_told_by_what_all_of_them_begin_with(look):
    rows = [{"prompt": begin + DOCUMENT * 2 + str(at)} for begin in ("", "x") for at in range(3)]
    rows += [{"prompt": DOCUMENT * 2}, {"prompt": DOCUMENT + "and so on, otherwise than the others " * 2}]
    sharing = look(rows, *WHOLE).sharing
    assert [(one.prompts, one.row) for one in sharing.beginnings] == [(5, 0), (3, 3)]
    assert [one.length for one in sharing.beginnings] == [64, sharing.beginnings[1].saved // 2]
    assert sharing.shared == sum(one.saved for one in sharing.beginnings)


def test_without_a_tokenizer_the_share_is_estimated_by_bytes(make_job, tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    spec = make_job(rows, f"target.model={tmp_path / 'none'}", f"dataset.systemPrompt={'mind ' * 200}").spec
    found = peek(spec, make_encoding(spec, os.environ, print), 1)
    assert found.sharing.unit == "bytes"
    assert found.sharing.shared == len(found.shown[0].text) // 256 * 256
    assert "about 38% of the prompts of the first 2 rows" in render_peek(found)
