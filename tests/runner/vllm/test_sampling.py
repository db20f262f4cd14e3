"""A request as the arguments of vLLM's SamplingParams."""

from dataclasses import dataclass

import pytest

from specbatch.engine.logits.options import LogitsOptions, TokenBias
from specbatch.engine.request import Request, SamplingParams
from specbatch.runner.vllm.sampling import not_of_vllm, sampling_arguments
from tests.api.specs import job


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
    banned = LogitsOptions(tuple(TokenBias(token, float("-inf"), 5) for token in (2, 7)))
    found = arguments(eos_token_ids=frozenset({2, 7}), logits=banned)
    assert (found["min_tokens"], found["logit_bias"]) == (5, None)


@pytest.mark.parametrize(
    ("logits", "said"),
    [
        (LogitsOptions((TokenBias(4, float("-inf")),)), "tokens are banned"),
        (LogitsOptions((TokenBias(4, float("-inf"), 3),)), "banned for a while"),
        (LogitsOptions(bad_words=((1, 2),)), "bad_words is not supported"),
        (LogitsOptions(no_repeat_ngram_size=3), "no_repeat_ngram_size is not supported"),
    ],
)
def test_what_vllm_cannot_do_with_a_row_is_refused_by_name(logits, said):
    with pytest.raises(ValueError, match=said):
        arguments(logits=logits)


def test_what_a_later_release_lets_a_row_ask_is_refused_until_it_is_taught():
    @dataclass(frozen=True)
    class Later(Request):
        mood: str = ""

    sampling_arguments(Later("r", [1], 2))
    with pytest.raises(ValueError, match="mood is not supported with this engine"):
        sampling_arguments(Later("r", [1], 2, mood="good"))


def test_what_the_spec_asks_of_every_row_is_refused_before_any_row():
    decoding = job("decoding: {badWords: [x], topLogprobs: 0, minTokens: 3}").spec.decoding
    assert [problem.path for problem in not_of_vllm(decoding)] == [
        "spec.decoding.badWords",
        "spec.decoding.topLogprobs",
    ]
