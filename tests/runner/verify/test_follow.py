"""Following a recorded text, on logits written by hand."""

import pytest
import torch

from specbatch.api import DecodingSpec
from specbatch.engine.margins import Contest, tie_bound
from specbatch.engine.request import Request, SamplingParams
from specbatch.results.rows import Choice
from specbatch.runner.models.stop_strings import StopStrings
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.verify.follow import Follower

TIE = 5e-5  # float32's bound is 1e-4


class Scores:
    """logits by the tokens so far: {tokens: {token: logit}}; the others have less than -10, each another."""

    def __init__(self, table, size):
        self._table = table
        self._size = size

    def after(self, prompt, tokens, guess):
        logits = -10.0 - torch.arange(self._size) / 1000
        for token, logit in self._table.get(tuple(tokens), {}).items():
            logits[token] = logit
        return logits


@pytest.fixture(scope="module")
def detokenizer(tokenizer):
    return Detokenizer(tokenizer)


@pytest.fixture
def judge(tokenizer, detokenizer):
    """judge({text of tokens so far: {token: logit}}, recorded text, ...) -> Divergence"""
    eos = tokenizer.eos_token_id
    vocab = tokenizer.get_vocab()

    def ids(words):
        return tuple(eos if word == "$" else vocab[word] for word in words.split())

    def judge_(table, text, replayed, *, tokens, reason="length", stop=()):
        numbers = {ids(path): {ids(word)[0]: at for word, at in after.items()} for path, after in table.items()}
        request = Request("row", [1], 6 if reason == "stop" else tokens, eos_token_ids=frozenset({eos}),
                          stop=StopStrings(detokenizer, stop) if stop else None)  # fmt: skip
        recorded = Choice(id="row", text=text, finish_reason=reason, completion_tokens=tokens)
        follower = Follower(Scores(numbers, len(tokenizer)), detokenizer, torch.float32)
        return follower.judge(recorded, 7, request, DecodingSpec(stop=list(stop)), ids(replayed))

    return judge_


def test_two_tokens_within_the_bound_are_a_tie(judge):
    table = {"": {"C": 2.0, "H": 2.0 - TIE}, "H": {"e": 5.0}, "C": {"a": 5.0}}
    found = judge(table, "He", "C a", tokens=2)
    assert (found.kind, found.position, found.recorded, found.target) == ("tie", 0, "H", "C")
    assert found.margin == pytest.approx(TIE, rel=0.01)
    assert found.excerpt == "|He"


def test_a_token_beyond_the_bound_is_unexplained_and_shown(judge):
    table = {"": {"C": 2.0, "H": 2.0 - 3 * TIE}, "H": {"e": 5.0}, "C": {"a": 5.0}}
    found = judge(table, "He", "C a", tokens=2)
    assert (found.kind, found.index, found.position, found.recorded, found.target) == ("unexplained", 7, 0, "H", "C")
    assert found.margin == pytest.approx(3 * TIE, rel=0.01)
    assert found.bound == 1e-4


def test_what_comes_after_a_tie_is_examined_too(judge):
    table = {"": {"C": 2.0, "H": 2.0}, "H": {"e": 5.0, "a": 1.0}, "C": {"a": 5.0}}
    found = judge(table, "Ha", "C a", tokens=2)
    assert (found.kind, found.position, found.recorded, found.target) == ("unexplained", 1, "a", "e")
    assert found.margin == pytest.approx(4.0)
    assert found.excerpt == "H|a"


def test_of_two_tokens_that_both_go_on_as_recorded_the_one_that_leads_there_is_found(judge):
    """The replay took "b", the run "br" and was right to: "b" leads elsewhere."""
    table = {"": {"b": 3.0, "br": 3.0 - TIE}, "b": {"C": 5.0}, "br": {"H": 5.0}}
    found = judge(table, "brH", "b C", tokens=2)
    assert (found.kind, found.position, found.recorded, found.target) == ("tie", 0, "br", "b")


def test_a_way_of_another_number_of_tokens_is_none(judge):
    table = {"": {"b": 3.0, "br": 3.0 - TIE}, "b": {"r": 5.0}, "br": {"$": 5.0}, "b r": {"$": 5.0}}
    assert judge(table, "br", "b r $", tokens=2, reason="stop").kind == "tie"
    assert judge(table, "br", "br $", tokens=3, reason="stop").kind == "tie"
    assert judge(table, "br", "br $", tokens=4, reason="stop").kind == "unexplained"


def test_an_end_where_the_target_goes_on_is_unexplained_and_so_is_going_on(judge):
    table = {"": {"C": 5.0}, "C": {"a": 5.0, "$": 1.0}, "C a": {"$": 5.0, "H": 1.0}}
    cut = judge(table, "C", "C a $", tokens=2, reason="stop")
    assert (cut.kind, cut.position, cut.recorded, cut.target) == ("unexplained", 1, "<|im_end|>", "a")
    longer = judge(table, "CaH", "C a $", tokens=4, reason="stop")
    assert (longer.kind, longer.position, longer.recorded, longer.target) == ("unexplained", 2, "H", "<|im_end|>")


def test_an_end_within_the_bound_of_going_on_is_a_tie(judge):
    table = {"": {"C": 5.0}, "C": {"a": 5.0, "$": 5.0 - TIE}, "C a": {"$": 5.0}}
    assert judge(table, "C", "C a $", tokens=2, reason="stop").kind == "tie"


def test_tokens_of_a_stop_string_are_followed_past_the_recorded_text(judge):
    table = {"": {"C": 2.0, "H": 2.0}, "H": {"e": 5.0}, "H e": {"l": 5.0}, "H e l": {"a": 5.0}, "C": {"C": 1.0}}
    found = judge(table, "H", "C C", tokens=4, reason="stop", stop=["ela"])
    assert (found.kind, found.recorded) == ("tie", "H")
    assert judge(table, "H", "C C", tokens=4, reason="stop", stop=["elx"]).kind == "unexplained"
    assert judge(table, "H", "C C", tokens=3, reason="stop", stop=["ela"]).kind == "unexplained"


def test_bytes_of_one_character_are_followed_before_it_shows(judge):
    first, last = "Ã", "©"  # as a byte-level vocabulary writes the bytes C3 and A9
    table = {"": {first: 2.0, "C": 2.0 + TIE}, first: {last: 5.0}, f"{first} {last}": {"C": 5.0}, "C": {"C": 1.0}}
    assert judge(table, "éC", "C C C", tokens=3).kind == "tie"
    assert judge(table, "èC", "C C C", tokens=3).kind == "unexplained"


def test_tokens_as_good_as_the_best_that_lead_nowhere_end_in_bounded_time(judge):
    """Special tokens have no text: each fits, and at each of 8 positions two are alike."""
    words = ["<|im_start|>", "<|pad|>"]
    scores = dict.fromkeys(words, 5.0)
    paths = [""]
    table = {}
    for _ in range(8):
        table |= dict.fromkeys(paths, scores)
        paths = [f"{path} {word}".strip() for path in paths for word in words]
    assert judge(table, "C", "C", tokens=40).kind == "unexplained"


def test_the_exact_winner_is_the_targets_own_though_a_better_one_is_left_out_by_a_hair(tokenizer, detokenizer):
    """ "a" has more than top-p's mass before it, by a hundredth: it may win in bfloat16, and would, with its noise."""
    chances = dict(zip("CHae", (0.4, 0.301, 0.2, 0.099), strict=True))
    ids = {letter: tokenizer.get_vocab()[letter] for letter in chances}
    table = {(): {ids[letter]: float(torch.tensor(chance).log()) for letter, chance in chances.items()}}
    scores = Scores(table, len(tokenizer))
    logits = scores.after([1], [], [])
    bound = tie_bound(torch.bfloat16, logits)
    for number in range(100):
        request = Request(f"row-{number}", [1], 1, sampling=SamplingParams(1.0, top_p=0.68))
        contest = Contest.of(logits, request, [])
        taken = contest.winners(0.0)[0]
        if contest.winners(bound)[0] == ids["a"] != taken:
            break
    else:
        pytest.fail("no row's noise prefers it")
    text = detokenizer([taken])
    recorded = Choice(id="row", text=text, finish_reason="length", completion_tokens=1)
    found = Follower(scores, detokenizer, torch.bfloat16).judge(recorded, 0, request, DecodingSpec(), [ids["a"]])
    assert (found.kind, found.recorded, found.target) == ("tie", text, "a")
    assert 0 < found.margin < bound
