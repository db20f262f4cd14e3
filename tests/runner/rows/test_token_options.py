"""Options about tokens, from a row's text to what the engine is given."""

import math

import pytest

from specbatch.api import DecodingSpec
from specbatch.engine.logits.options import ALWAYS, NO_OPTIONS, TokenBias
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.requests import RequestMaker
from specbatch.runner.rows.prefetcher import PreparedRow
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.token_options import logits_options
from tests.runner.rows.test_prompts import row_of
from tests.runner.tiny import CHAT_TEMPLATE


@pytest.fixture
def options(tokenizer):
    return lambda **decoding: logits_options(DecodingSpec(**decoding), tokenizer, len(tokenizer))


@pytest.fixture
def request_of(tokenizer):
    def make(**fields):
        encoder = PromptEncoder(tokenizer, template=CHAT_TEMPLATE, max_length=256)
        prepared = PreparedRow.of(row_of({"prompt": "hello", **fields}), encoder)
        return RequestMaker(Detokenizer(tokenizer), frozenset({2}))(prepared)

    return make


def test_a_row_that_asks_nothing_has_no_options(options, request_of):
    assert options() is NO_OPTIONS
    assert request_of().logits is NO_OPTIONS
    assert request_of(repetition_penalty=1, logit_bias={}, min_tokens=0).logits is NO_OPTIONS


def test_biases_and_bans_are_one_entry_a_token(options):
    found = options(
        logit_bias={"3": 2.0, "5": -100}, suppress_tokens=[5, 7], begin_suppress_tokens=[3], bad_words=[[9], [1, 2]]
    )
    assert set(found.bias) == {
        TokenBias(3, 2.0), TokenBias(5, -math.inf), TokenBias(7, -math.inf), TokenBias(9, -math.inf), TokenBias(3, -math.inf, until=1),
    }  # fmt: skip
    assert found.bad_words == ((1, 2),)


def test_a_bad_word_is_banned_as_it_begins_a_text_and_after_a_space(options, tokenizer):
    plain, spaced = (tokenizer.encode(text, add_special_tokens=False) for text in ("the", " the"))
    found = options(bad_words=["the"])
    banned = [list(word) for word in found.bad_words] + [[entry.token] for entry in found.bias]
    assert plain in banned
    assert spaced in banned


def test_the_ends_of_a_text_are_banned_until_min_tokens(request_of):
    request = request_of(min_tokens=4, stop_token_ids=[6], repetition_penalty=1.5)
    assert request.eos_token_ids == {2, 6}
    assert set(request.logits.bias) == {TokenBias(2, -math.inf, 4), TokenBias(6, -math.inf, 4)}
    assert request.logits.repetition_penalty == 1.5
    assert request_of(ignore_eos=True, stop_token_ids=[6]).eos_token_ids == {6}
    assert ALWAYS > 2**20


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"logit_bias": {"999999": 1}}, "logit_bias: there is no token 999999"),
        ({"stop_token_ids": [999999]}, "stop_token_ids: there is no token"),
        ({"bad_words": [[999999]]}, "bad_words: there is no token"),
        ({"bad_words": ["many words that are a great many tokens, more than anybody would ban as one"]}, "the most that can be banned"),
        ({"bad_words": [[i, 1] for i in range(64)] + ["two three"]}, ""),
    ],
    ids=str,
)  # fmt: skip
def test_tokens_that_there_are_not_and_words_too_long_are_refused(options, fields, said):
    if not said:
        with pytest.raises(ValueError, match="at most 64"):
            options(**fields)
        return
    with pytest.raises(RowError, match=said) as caught:
        options(**fields)
    assert caught.value.code is ErrorCode.INVALID_FIELD


@pytest.mark.parametrize(
    "fields",
    [
        {"repetition_penalty": 0}, {"repetition_penalty": True}, {"frequency_penalty": 3}, {"presence_penalty": "1"}, {"min_p": 1.5}, {"logit_bias": {"x": 1}},
        {"logit_bias": {"1": 101}}, {"logit_bias": [1]}, {"bad_words": [""]}, {"bad_words": [[]]}, {"stop_token_ids": 5}, {"stop_token_ids": [-1]},
        {"min_tokens": -1}, {"min_tokens": 9, "max_tokens": 8}, {"no_repeat_ngram_size": 99}, {"n": 2}, {"n": 0}, {"n": True, "temperature": 1},
    ],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_are_a_rows_error(fields):
    assert row_of({"prompt": "x", **fields}).code is ErrorCode.INVALID_FIELD
