"""A request as the arguments of vLLM's SamplingParams."""

from dataclasses import dataclass

import pytest

from specbatch.api.structured import StructuredOutput
from specbatch.engine.logits.options import LogitsOptions, TokenBias
from specbatch.engine.request import Request, SamplingParams
from specbatch.runner.rows.grammars import RowGrammar
from specbatch.runner.vllm.sampling import sampling_arguments

BAN = float("-inf")


def arguments(**fields):
    return sampling_arguments(Request("r", [1, 2], 9, **fields))


def test_a_plain_row_is_greedy_without_a_seed_and_ends_at_the_runs_own_tokens():
    found = arguments(eos_token_ids=frozenset({7, 2}))
    assert (found["temperature"], found["seed"], found["max_tokens"], found["min_tokens"]) == (0.0, None, 9, 0)
    assert (found["stop_token_ids"], found["ignore_eos"]) == ([2, 7], True)


def test_a_sampled_row_has_a_seed_from_its_seed_and_its_id():
    sampling = SamplingParams(0.7, 5, 0.9)
    seeds = {
        sampling_arguments(Request(name, [1], 9, sampling, seed))["seed"] for name in ("a", "b") for seed in (0, 1)
    }
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    found = arguments(sampling=sampling)
    assert (found["temperature"], found["top_k"], found["top_p"]) == (0.7, 5, 0.9)


def test_penalties_and_biases_are_passed_on():
    logits = LogitsOptions((TokenBias(4, -3.0),), (), 1.2, 0.5, -0.5, 0, 0.1)
    found = arguments(logits=logits)
    assert found["logit_bias"] == {4: -3.0}
    assert (found["repetition_penalty"], found["frequency_penalty"], found["presence_penalty"]) == (1.2, 0.5, -0.5)
    assert found["min_p"] == 0.1


def test_a_ban_of_the_ending_tokens_for_a_while_is_min_tokens():
    banned = LogitsOptions(tuple(TokenBias(token, BAN, 5) for token in (2, 7)))
    found = arguments(eos_token_ids=frozenset({2, 7}), logits=banned)
    assert (found["min_tokens"], found["logit_bias"]) == (5, None)


def test_bans_are_biases_and_bad_words_of_several_tokens_are_tokens_too():
    found = arguments(logits=LogitsOptions((TokenBias(4, BAN), TokenBias(5, 2.0)), ((1, 2),)))
    assert found["logit_bias"] == {4: BAN, 5: 2.0}
    assert found["_bad_words_token_ids"] == [[1, 2]]


def test_with_drafts_where_vllm_takes_no_bias_bans_are_bad_words():
    logits = LogitsOptions((TokenBias(4, BAN),), ((1, 2),))
    found = sampling_arguments(Request("r", [1, 2], 9, logits=logits), drafts=True)
    assert (found["logit_bias"], found["_bad_words_token_ids"]) == (None, [[4], [1, 2]])


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ({"regex": "a+"}, {"regex": "a+"}),
        ({"choice": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"grammar": 'start: "a"'}, {"grammar": 'start: "a"'}),
    ],
)
def test_a_structured_output_is_passed_on_as_it_was_asked_for(asked, passed):
    grammar = RowGrammar(None, 1, frozenset({2}), StructuredOutput(**asked))
    assert arguments(grammar=grammar)["structured_outputs"] == passed


def test_a_schema_has_the_native_engines_whitespace():
    grammar = RowGrammar(None, 1, frozenset({2}), StructuredOutput(json_schema={"type": "object"}))
    passed = arguments(grammar=grammar)["structured_outputs"]["json"]
    assert passed["type"] == "object"
    assert "whitespace_pattern" in passed["x-guidance"]


@pytest.mark.parametrize("most", [None, 0, 5])
def test_log_probabilities_are_as_many_as_asked_for(most):
    assert arguments(top_logprobs=most)["logprobs"] == most
    assert arguments(prompt_logprobs=most)["prompt_logprobs"] == most


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"logits": LogitsOptions((TokenBias(4, BAN, 3),))}, "banned for a while: begin_suppress_tokens"),
        ({"logits": LogitsOptions((TokenBias(4, BAN, 1),)), "eos_token_ids": frozenset({4, 5})}, "banned for a while"),
        ({"logits": LogitsOptions(no_repeat_ngram_size=3)}, "no_repeat_ngram_size is not supported"),
        ({"logits": LogitsOptions(tuple(TokenBias(token, 1.0) for token in range(1025)))}, "more than 1024 tokens"),
        ({"eos_token_ids": frozenset(range(129))}, "128 tokens that end it"),
    ],
)
def test_what_vllm_cannot_do_with_a_row_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        arguments(**fields)


def test_sampled_rows_with_drafts_on_a_cpu_which_come_out_wrong_there_are_refused():
    row = Request("r", [1], 9, SamplingParams(0.7))
    with pytest.raises(ValueError, match="set drafter to null"):
        sampling_arguments(row, drafts=True, on_cpu=True)
    assert sampling_arguments(row, drafts=True)["temperature"] == 0.7
    assert sampling_arguments(row, on_cpu=True)["temperature"] == 0.7
    assert sampling_arguments(Request("r", [1], 9), drafts=True, on_cpu=True)["temperature"] == 0


def test_what_a_later_release_lets_a_row_ask_is_refused_until_it_is_taught():
    @dataclass(frozen=True)
    class Later(Request):
        mood: str = ""

    sampling_arguments(Later("r", [1], 2))
    with pytest.raises(ValueError, match="mood is not supported with this engine"):
        sampling_arguments(Later("r", [1], 2, mood="good"))
