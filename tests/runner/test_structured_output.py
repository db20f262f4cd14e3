"""Rows held to a form: valid whatever the model would say, the masked target's own text, and verified."""

import json
import re

import jsonschema
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from specbatch.api import DecodingSpec
from specbatch.api.structured import StructuredOutput
from specbatch.engine.logits.grammar import GrammarRound
from specbatch.results.rows import ErrorCode
from specbatch.runner.job import run_job
from specbatch.runner.rows import grammars
from specbatch.runner.rows.grammars import GrammarCompiler
from specbatch.runner.rows.row import BadRow
from specbatch.runner.verify.verify import verify_run
from tests.runner.rows.test_prompts import row_of
from tests.runner.tiny import read_lines

pytest.importorskip("llguidance", reason="the extra grammar")
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"enum": ["Zoë", "Ida"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        "inner": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False},
    },
    "required": ["name", "tags", "inner"],
    "additionalProperties": False,
}  # fmt: skip
ASKED = [
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}}, {"json_schema": SCHEMA}),
    ({"response_format": {"type": "json_object"}}, {"json_schema": {"type": "object"}}),
    ({"format": "json"}, {"json_schema": {"type": "object"}}),
    ({"format": SCHEMA}, {"json_schema": SCHEMA}),
    ({"guided_json": json.dumps(SCHEMA)}, {"json_schema": SCHEMA}),
    ({"guided_regex": "a+"}, {"regex": "a+"}),
    ({"structured_outputs": {"choice": ["a", "b"]}}, {"choice": ["a", "b"]}),
    ({"structured_outputs": {"json_object": True, "regex": None}}, {"json_schema": {"type": "object"}}),
    ({"grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
    ({"grammar": {"type": "regex", "value": "a+"}}, {"regex": "a+"}),
]  # fmt: skip


@pytest.mark.parametrize(("option", "meant"), ASKED, ids=str)
def test_every_engines_way_to_ask_means_the_same(option, meant):
    found = row_of({"prompt": "x", **option}).decoding.structured_output
    assert found.model_dump(exclude_none=True) == meant


@pytest.mark.parametrize(
    "option",
    [
        {"response_format": {"type": "xml"}}, {"response_format": {"type": "json_schema"}}, {"guided_json": "{"}, {"guided_json": 3}, {"guided_choice": []},
        {"guided_regex": 5}, {"structured_outputs": {"json": SCHEMA, "regex": "a"}}, {"structured_outputs": {"structural_tag": "x"}}, {"guided_choice": ["a"], "ignore_eos": True},
        {"guided_choice": ["a"], "min_tokens": 2}, {"guided_json": SCHEMA, "guided_regex": "a"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_form_is_the_rows_error(option):
    if option == {"guided_choice": []}:
        assert row_of({"prompt": "x", **option}).decoding.structured_output is None
        return
    assert isinstance(row_of({"prompt": "x", **option}), BadRow)


def test_a_schema_that_cannot_be_had_is_refused_and_equal_ones_are_compiled_once(tokenizer):
    compiler = GrammarCompiler(tokenizer, len(tokenizer), [2])
    for asked in ({"json_schema": {"type": "strin"}}, {"regex": "[a-z"}, {"grammar": "start: nothing"}):
        with pytest.raises(Exception, match="cannot be had") as caught:
            compiler.grammar(DecodingSpec(structured_output=asked).structured_output)
        assert caught.value.code is ErrorCode.INVALID_FIELD
    asked = DecodingSpec(structured_output={"json_schema": SCHEMA}).structured_output
    compiler.grammar(asked), compiler.grammar(asked)
    assert compiler._compiled.cache_info().hits == 1


def test_a_grammar_beyond_llguidances_limits_says_which_when_it_comes_to_that(tokenizer):
    many = {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(600)}}
    row = GrammarCompiler(tokenizer, len(tokenizer), [0]).grammar(StructuredOutput(json_schema=many))
    mask = torch.zeros(row.words, dtype=torch.int32)
    row.commit(tokenizer.encode("{", add_special_tokens=False))
    row.fill(mask)
    assert row.error.startswith("Parser Error: Current row has")
    assert "<state>" not in row.error


def test_without_llguidance_a_row_is_told_which_extra_it_needs(tokenizer, monkeypatch):
    monkeypatch.setattr(grammars, "is_installed", lambda: False)
    with pytest.raises(Exception, match=r"pip install 'specbatch\[grammar\]'") as caught:
        GrammarCompiler(tokenizer, len(tokenizer), [2]).grammar(StructuredOutput(regex="a"))
    assert caught.value.code is ErrorCode.UNSUPPORTED_OPTION


def byte_level(decoder):
    """A vocabulary of bytes."""
    names = {name: token for token, name in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=names, merges=[]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoder
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_a_byte_level_decoder_behind_others_as_one_from_a_gguf_is_read_by_bytes():
    """Else Ċ, a line break, were a letter that a JSON string may hold."""
    behind = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.ByteLevel()])
    for decoder in (behind, decoders.ByteLevel()):
        tokenizer = byte_level(decoder)
        compiler = GrammarCompiler(tokenizer, 256, [0])
        grammar = compiler.grammar(StructuredOutput(json_schema={"type": "string"}))
        grammar.commit(tokenizer.encode('"a'))
        asked = GrammarRound([grammar], 256)
        asked.fill(1, [[]])
        bits = asked.masks[0][0]
        allowed = {text: bool(bits[t // 32] >> (t % 32) & 1) for text in 'a "\n' for t in tokenizer.encode(text)}
        assert allowed == {"a": True, " ": True, '"': True, "\n": False}


def only(grammar):
    """The token that its mask allows alone; None where there are several."""
    asked = GrammarRound([grammar], 256)
    asked.fill(1, [[]])
    bits = [
        word * 32 + bit
        for word, value in enumerate(asked.masks[0][0].tolist())
        for bit in range(32)
        if value >> bit & 1
    ]
    return bits[0] if len(bits) == 1 else None


@pytest.mark.parametrize(
    ("asked", "text"),
    [(StructuredOutput(json_schema=SCHEMA), '{"name": "Ida", "tags": ["a"], "inner": {"ok": true}}'), (StructuredOutput(choice=["yes indeed", "no"]), "yes indeed")],
    ids=["schema", "choice"],
)  # fmt: skip
@pytest.mark.parametrize("ends", [[0], [0, 255]])
def test_forced_tokens_are_those_that_masks_allow_alone_and_the_end_where_there_is_one(asked, text, ends):
    tokenizer = byte_level(decoders.ByteLevel())
    grammar = GrammarCompiler(tokenizer, 256, ends).grammar(asked)
    tokens = [*tokenizer.encode(text), 0]
    forced = []
    for at, token in enumerate(tokens):
        run = grammar.forced(99)
        assert run == tokens[at : at + len(run)]
        assert run[:1] == ([token] if only(grammar) == token else [])
        assert grammar.forced(2) == run[:2]
        forced.append(len(run))
        assert token == 0 or grammar.commit([token]) is None
    assert max(forced) > 4
    assert (forced[-1] == 1) == (len(ends) == 1), "which of two ends it is, the target says"


def test_a_tokenizer_that_llguidance_reads_otherwise_is_refused():
    compiler = GrammarCompiler(byte_level(decoders.Fuse()), 256, [0])
    with pytest.raises(Exception, match="of a kind that llguidance does not read") as caught:
        compiler.grammar(StructuredOutput(regex="a"))
    assert caught.value.code is ErrorCode.UNSUPPORTED_OPTION


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 3])
def test_texts_have_their_form_beside_free_rows_and_are_the_masked_targets_own(make_job, tmp_path, k):
    forms = [{"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, {"guided_regex": "[0-9]{3}-[a-f]{2}"},
             {"guided_choice": ["yes indeed", "no"]}, {"guided_grammar": 'start: "<" /[a-c]/ ">"'}, {}]  # fmt: skip
    rows = [
        {"id": f"{i}-{temperature}", "prompt": "hello", "max_tokens": 230, "temperature": temperature, **form}
        for i, form in enumerate(forms)
        for temperature in (0, 1.0)
    ]
    rows.append({"id": "bad", "prompt": "hello", "guided_regex": "[a-z"})
    job = make_job(rows, f"decoding.numSpeculativeTokens={k}", "batching.maxLength=256")
    summary = run_job(job)
    assert (summary.totals.results, summary.totals.errors) == (10, 1)
    directory = tmp_path / "results" / "tiny"
    texts = {line["id"]: line["text"] for line in read_lines(directory)}
    for temperature in (0, 1.0):
        jsonschema.validate(json.loads(texts[f"0-{temperature}"]), SCHEMA)
        assert re.fullmatch("[0-9]{3}-[a-f]{2}", texts[f"1-{temperature}"])
        assert texts[f"2-{temperature}"] in {"yes indeed", "no"}
        assert re.fullmatch("<[a-c]>", texts[f"3-{temperature}"])
    found = verify_run(directory)
    assert (found.exact, found.unexplained) == (10, 0)


@pytest.mark.slow
def test_a_tool_that_must_be_called_is_called_in_openais_form_and_verified(make_job, tmp_path):
    template = tmp_path / "tools.jinja"
    template.write_text("{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}{{ messages[-1].content }}")
    parameters = {
        "type": "object",
        "properties": {"unit": {"enum": ["c", "f"]}},
        "required": ["unit"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "heat", "parameters": parameters}}
    body = {
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [tool],
        "parallel_tool_calls": False,
        "max_tokens": 200,
    }
    choices = {"some": "required", "that": {"type": "function", "function": {"name": "heat"}}}
    rows = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": {**body, "tool_choice": choice}}
        for name, choice in choices.items()
    ]
    run_job(make_job(rows, f"dataset.chatTemplate={template}", "batching.maxLength=256"))
    directory = tmp_path / "results" / "tiny"
    lines = read_lines(directory)
    assert {line["custom_id"] for line in lines} == set(choices)
    for line in lines:
        (choice,) = line["response"]["body"]["choices"]
        assert choice["finish_reason"] == "tool_calls"
        (call,) = choice["message"]["tool_calls"]
        assert call["function"]["name"] == "heat"
        jsonschema.validate(json.loads(call["function"]["arguments"]), parameters)
    found = verify_run(directory)
    assert (found.exact, found.unexplained) == (2, 0)
