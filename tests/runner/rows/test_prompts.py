import json
from datetime import UTC, datetime

import pytest

from specbatch.api import DecodingSpec
from specbatch.errors import ModelError, SpecError
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.models.tokenizer import load_tokenizer
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import CHAT_TEMPLATE, row_rules, sentencepiece_like_tokenizer


def row_of(fields, **decoding):
    rules = row_rules(DecodingSpec(**{"max_new_tokens": 8, **decoding}))
    return RowReader(rules).read(RawRow(0, 1, json.dumps(fields).encode()))


@pytest.fixture
def prompt_of(tokenizer):
    """prompt_of(fields, **options of the encoder) -> the prompt's text, special tokens included."""

    def encode(fields, **options):
        encoder = PromptEncoder(tokenizer, **{"template": CHAT_TEMPLATE, "max_length": 256, **options})
        return tokenizer.decode(encoder.encode(row_of(fields)))

    return encode


@pytest.fixture
def in_reasoning(tokenizer):
    """in_reasoning(fields, generation prompt) -> whether the prompt ends within reasoning."""

    def of(fields, begins="<think>\n", end="<|im_end|>\n"):
        template = (
            f"{{% for m in messages %}}{{{{ m.role }}}}:{{{{ m.content }}}}{end}{{% endfor %}}"
            f"{{% if add_generation_prompt %}}assistant:{begins}{{% endif %}}"
        )
        encoder = PromptEncoder(tokenizer, template=None if "prompt" in fields else template, max_length=512)
        return encoder.prompt(row_of({"reasoning": "split", **fields})).in_reasoning

    return of


SPEAKS_OF_IT = [{"role": "user", "content": "What does <think> mean?"}]
BEGUN = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "<think>\nFirst,"}]
DONE = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "<think>\nFirst,</think>So"}]


def test_a_prompt_whose_template_opens_reasoning_ends_within_it(in_reasoning):
    asked = {"messages": USER}
    assert in_reasoning(asked)
    assert in_reasoning({**asked, "n": 2, "temperature": 1})
    assert in_reasoning({"messages": SPEAKS_OF_IT})
    assert in_reasoning(asked, "<think>\nWell,")
    assert not in_reasoning(asked, "")
    assert not in_reasoning(asked, "<think>\n\n</think>\n\n")
    assert not in_reasoning({**asked, "reasoning": "inline"})
    assert not in_reasoning({**asked, "guided_regex": "a+"}), "the text is held to a form from its first token on"


def test_a_prompt_that_gives_the_beginning_of_the_reasoning_ends_within_it(in_reasoning):
    assert in_reasoning({"messages": BEGUN, "continue_final_message": True})
    assert not in_reasoning({"messages": DONE, "continue_final_message": True})
    assert in_reasoning({"prompt": "<|user|>hello<|assistant|><think>\nFirst,"})
    assert not in_reasoning({"prompt": "<|user|>hello<|assistant|><think>\nFirst,</think>"})
    assert not in_reasoning({"prompt": "<|user|>What does <think> mean?<|assistant|>"})
    assert not in_reasoning({"prompt": "<\uff5cUser\uff5c>What does <think> mean?<\uff5cAssistant\uff5c>"})


@pytest.mark.parametrize("end", ["<|im_end|>\n", "\n"])
def test_a_user_who_speaks_of_the_tag_opens_no_reasoning(in_reasoning, end):
    assert not in_reasoning({"messages": SPEAKS_OF_IT}, "", end)


USER = [{"role": "user", "content": "hello"}]
WRAPPED = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_prompt_is_wrapped_as_a_user_message(prompt_of):
    assert prompt_of({"prompt": "hello"}) == WRAPPED
    assert prompt_of({"messages": USER}) == WRAPPED


def test_system_prompt_goes_before_messages_that_have_none(prompt_of):
    system = "<|im_start|>system\nbe kind<|im_end|>\n"
    assert prompt_of({"prompt": "hello"}, system_prompt="be kind") == system + WRAPPED
    own = [{"role": "system", "content": "own"}, *USER]
    assert prompt_of({"messages": own}, system_prompt="be kind") == "<|im_start|>system\nown<|im_end|>\n" + WRAPPED


def test_enable_thinking_reaches_the_template_and_a_row_overrides_it(prompt_of):
    assert prompt_of({"prompt": "hello"}, enable_thinking=True) == WRAPPED
    assert prompt_of({"prompt": "hello"}, enable_thinking=False) == WRAPPED + "<think>\n</think>\n"
    body = {"messages": USER, "chat_template_kwargs": {"enable_thinking": False}}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert prompt_of(line, enable_thinking=True) == WRAPPED + "<think>\n</think>\n"


def test_without_a_template_and_in_the_completions_form_prompts_stay_raw(prompt_of):
    assert prompt_of({"prompt": "hello"}, template=None) == "hello"
    assert prompt_of({"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "hello"}}) == "hello"


def test_beginning_of_sequence_is_added_once():
    tokenizer = sentencepiece_like_tokenizer()
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )

    def tokens(fields, template):
        return PromptEncoder(tokenizer, template=template, max_length=99).encode(row_of(fields))

    bos = tokenizer.bos_token_id
    assert tokens({"prompt": "ab"}, None).count(bos) == 1
    assert tokens({"prompt": "<s>ab"}, None).count(bos) == 1
    assert tokens({"prompt": "ab"}, "{{ bos_token }}{{ messages[0].content }}").count(bos) == 1
    assert tokens({"prompt": "ab"}, "{{ messages[0].content }}").count(bos) == 0


def code_of(encoder, fields, **decoding):
    with pytest.raises(RowError) as caught:
        encoder.encode(row_of(fields, **decoding))
    assert caught.value.message
    return caught.value.code


def test_what_the_template_or_the_tokenizer_refuses_is_a_row_error(tokenizer):
    encoder = PromptEncoder(tokenizer, template=CHAT_TEMPLATE, max_length=256)
    assert code_of(encoder, {"messages": [{"role": "tool", "content": "x"}]}) is ErrorCode.CHAT_TEMPLATE
    plain = PromptEncoder(tokenizer, template=None, max_length=256)
    assert code_of(plain, {"messages": USER}) is ErrorCode.CHAT_TEMPLATE
    nothing = PromptEncoder(tokenizer, template="{# #}", max_length=256)
    assert code_of(nothing, {"prompt": "x"}) is ErrorCode.EMPTY_PROMPT

    class Broken:
        bos_token = None

        def __call__(self, text, *, add_special_tokens):
            raise Exception("PanicException")  # noqa: TRY002 - as the Rust backend does

    assert code_of(PromptEncoder(Broken(), template=None, max_length=9), {"prompt": "x"}) is ErrorCode.TOKENIZATION


def test_a_prompt_that_is_wrapped_already_is_not_wrapped_again(tokenizer, prompt_of):
    encoder = PromptEncoder(tokenizer, template=CHAT_TEMPLATE, max_length=256)
    assert code_of(encoder, {"prompt": WRAPPED}) is ErrorCode.CHAT_TEMPLATE
    assert code_of(encoder, {"prompt": f" {WRAPPED}"}) is ErrorCode.CHAT_TEMPLATE
    assert prompt_of({"prompt": WRAPPED}, template=None) == WRAPPED
    assert prompt_of({"custom_id": "a", "url": "/v1/completions", "body": {"prompt": WRAPPED}}) == WRAPPED
    assert "what is <|im_start|>?" in prompt_of({"prompt": "what is <|im_start|>?"})


def test_what_needs_a_template_is_refused_without_one(tokenizer):
    plain = PromptEncoder(tokenizer, template=None, max_length=256)
    assert code_of(plain, {"prompt": "hello", "enable_thinking": False}) is ErrorCode.UNSUPPORTED_OPTION
    assert code_of(plain, {"prompt": "hello", "system": "be kind"}) is ErrorCode.CHAT_TEMPLATE


def test_prompt_and_new_tokens_must_fit_max_length(tokenizer):
    tokens = len(tokenizer(WRAPPED, add_special_tokens=False)["input_ids"])
    encoder = PromptEncoder(tokenizer, template=CHAT_TEMPLATE, max_length=tokens + 8)
    assert len(encoder.encode(row_of({"prompt": "hello"}))) == tokens
    assert code_of(encoder, {"prompt": "hello"}, max_new_tokens=9) is ErrorCode.PROMPT_TOO_LONG


def test_a_template_that_asks_for_the_time_is_told_the_runs(tokenizer, prompt_of):
    template = "{{ strftime_now('%d %b %Y %H:%M') }}"
    told = prompt_of({"prompt": "hello"}, template=template, instant=datetime.fromisoformat("2026-11-28T23:59"))
    assert told == "28 Nov 2026 23:59"
    assert prompt_of({"prompt": "hello"}, template="{{ strftime_now('%Y') }}") == str(
        datetime.now(UTC).astimezone().year
    )


def test_system_prompt_without_a_template_is_a_spec_error(tokenizer):
    with pytest.raises(SpecError, match="systemPrompt"):
        PromptEncoder(tokenizer, template=None, system_prompt="x", max_length=9)


def test_a_token_that_the_target_has_no_embedding_for_is_refused_by_name(tokenizer):
    known = PromptEncoder(tokenizer, template=None, max_length=99, embedded=len(tokenizer))
    ids = known.encode(row_of({"prompt": "hello"}))
    fewer = PromptEncoder(tokenizer, template=None, max_length=99, embedded=max(ids))
    with pytest.raises(RowError, match=f"token {max(ids)} of the prompt .* embeddings for {max(ids)} tokens"):
        fewer.encode(row_of({"prompt": "hello"}))


def test_folder_without_a_tokenizer_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(tmp_path, name="some/model")


def test_an_answer_that_a_template_begins_is_continued(tokenizer):
    template = [{"role": "user", "content": "{{ q }}"}, {"role": "assistant", "content": "{{ start }}"}]
    encoder = PromptEncoder(tokenizer, template=CHAT_TEMPLATE, max_length=256)

    def prompt_of(**fields):
        reader = RowReader(row_rules(DecodingSpec(max_new_tokens=8), template=template))
        return tokenizer.decode(encoder.encode(reader.read(RawRow(0, 1, json.dumps(fields).encode()))))

    assert prompt_of(q="hello", start="Well, ") == WRAPPED + "Well, "
    assert prompt_of(q="hello", start="") == WRAPPED


def test_a_system_prompt_of_the_spec_does_not_get_lost_in_a_completion(tokenizer):
    encoder = PromptEncoder(tokenizer, template=CHAT_TEMPLATE, max_length=256, system_prompt="be kind")
    completion = {"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "hello"}}
    assert code_of(encoder, completion) is ErrorCode.UNSUPPORTED_REQUEST
