"""Rows with a grammar: the text of the masked target alone in both engines, whatever is drafted, beside rows without one."""

import dataclasses

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.logits import grammar
from specbatch.engine.logits.grammar import BITS, Grammar, forbid, mask_words
from specbatch.engine.logits.options import LogitsOptions
from specbatch.engine.request import Request, SamplingParams
from tests.engine import tiny
from tests.engine.graphs import fast

ENGINES = {"general": tiny.decode, "graphs": fast.decode}
NEW, END = 18, 7


class Residues(Grammar):
    """Token t may follow position i where t % 3 == i % 3; END from the 12th token on, and then alone."""

    def __init__(self):
        self.tokens, self.ahead, self.error = [], [], ""

    def allowed(self, count):
        return (
            {END} if count >= 12 else {token for token in range(tiny.VOCAB) if token % 3 == count % 3 and token != END}
        )

    def fill(self, mask):
        numbers = [0] * len(mask)
        for token in self.allowed(len(self.tokens) + len(self.ahead)):
            numbers[token // BITS] |= 1 << (token % BITS)
        mask.copy_(torch.tensor([n - 2**32 if n >= 2**31 else n for n in numbers], dtype=torch.int32))

    def look_ahead(self, token):
        if token not in self.allowed(len(self.tokens) + len(self.ahead)) or token == END:
            return False
        self.ahead.append(token)
        return True

    def back(self):
        self.ahead = []

    def commit(self, tokens):
        self.back()
        for token in tokens:
            assert token in self.allowed(len(self.tokens))
            self.tokens.append(token)


def requests(params=SamplingParams(), every=2, **changes):  # noqa: B008 - frozen
    return [
        Request(
            str(i), row, NEW, sampling=params, seed=4, grammar=Residues() if i % every == 0 else None,
            eos_token_ids=frozenset({END}) if i % every == 0 else frozenset(), **changes,
        )
        for i, row in enumerate(tiny.prompts(10))
    ]  # fmt: skip


def alone(model, row):
    """Greedy, forward by forward."""
    tokens, grammar = [], Residues()
    while len(tokens) < NEW and END not in tokens:
        with torch.inference_mode():
            logits = model(torch.tensor([[*row, *tokens]])).logits[0, -1]
        allowed = torch.tensor(sorted(grammar.allowed(len(tokens))))
        tokens.append(int(allowed[logits[allowed].argmax()]))
        grammar.commit(tokens[-1:])
    return tokens


@pytest.fixture(scope="module")
def expected():
    model, rows = tiny.qwen3(), tiny.prompts(10)
    plain = tiny.greedy_reference(model, rows, NEW)
    return [alone(model, row) if i % 2 == 0 else plain[i] for i, row in enumerate(rows)]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("k", "batch"), [(0, 10), (1, 4), (2, 10), (3, 3), (4, 10)])
def test_greedy_rows_are_the_masked_targets_own(pair, expected, engine, k, batch):
    for drafter in (pair.noisy, NGramDrafter()):
        out, _ = ENGINES[engine](pair.target, drafter, requests(), num_speculative_tokens=k, max_sequences=batch)
        assert tiny.tokens(out, 10) == expected
        assert {out[str(i)].finish_reason for i in range(0, 10, 2)} == {"stop"}


@pytest.mark.slow
@pytest.mark.parametrize("drafters", [1, 2])
def test_groups_over_several_lanes_have_masks_of_their_own(pair, drafters):
    """None is made in memory that another's copy to the device may still read."""
    noisy = ModelDrafter(pair.noisy.model, replicas=[pair.noisy.model] * (drafters - 1))
    made = fast.engine(
        pair.target, noisy, num_speculative_tokens=2, max_sequences=10, drafter_apart=True, micro_batches=2
    )
    launch, memories = made.runner.launch, []

    def launched(*asked):
        found = launch(*asked)
        memories.extend(mask.untyped_storage().data_ptr() for mask in made.runner.pair.drafter.grammars.masks)
        return found

    made.runner.launch = launched
    assert tiny.tokens(fast.finish(made, requests(every=1)), 10) == [
        alone(tiny.qwen3(), row) for row in tiny.prompts(10)
    ]
    shared = made.runner.pair.state.options.memory_for_masks(mask_words(tiny.VOCAB))
    assert memories
    assert shared.untyped_storage().data_ptr() not in memories


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_a_drafter_that_is_the_target_is_always_accepted_drafts_being_masked_too(pair, engine, rule):
    sizes = {"num_speculative_tokens": 4, "acceptance_rule": rule, "max_sequences": 10}
    rows = requests(SamplingParams(1.0, top_p=0.9), every=1)
    out, made = ENGINES[engine](pair.target, pair.twin, rows, **sizes)
    assert made.stats.acceptance_rate == 1.0 or made.stats.accepted == made.stats.drafted - _beyond_the_end(out)


def _beyond_the_end(out):
    """Drafts behind a row's last token, where anything may stand."""
    return sum(c.drafted - c.accepted for c in out.values() if c.finish_reason == "stop")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_coupled_text_depends_on_neither_batch_nor_k_nor_drafter(pair, engine):
    texts = set()
    for batch, k, drafter in ((1, 0, None), (10, 4, pair.noisy), (4, 2, NGramDrafter()), (7, 3, pair.twin)):
        rows = requests(SamplingParams(1.1), logits=LogitsOptions(repetition_penalty=1.2))
        out, _ = ENGINES[engine](pair.target, drafter, rows, max_sequences=batch, num_speculative_tokens=k)
        texts.add(str(tiny.tokens(out, 10)))
    assert len(texts) == 1


@pytest.mark.slow
@pytest.mark.parametrize("k", range(5))
def test_both_engines_draw_the_same_by_the_rejection_rule(pair, k):
    sizes = {"num_speculative_tokens": k, "acceptance_rule": "rejection", "max_sequences": 10}
    texts = [
        tiny.tokens(decode(pair.target, pair.noisy, requests(SamplingParams(1.0)), **sizes)[0], 10)
        for decode in ENGINES.values()
    ]
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_a_row_that_is_preempted_goes_on_in_its_grammar(pair, expected, monkeypatch):
    made = fast.engine(pair.target, pair.noisy, num_speculative_tokens=2, max_sequences=10)
    reserve, asked = made.runner.reserve, []

    def scarce(sequences, k):
        asked.append(len(sequences))
        return (len(asked) < 4 or len(sequences) <= 5 or len(asked) > 12) and reserve(sequences, k)

    monkeypatch.setattr(made.runner, "reserve", scarce)
    assert tiny.tokens(fast.finish(made, requests()), 10) == expected
    assert 5 in asked[:12], "five rows wait anew"


@pytest.mark.slow
def test_a_row_whose_grammar_comes_to_nothing_is_an_error_and_the_others_are_not(pair, expected):
    class DeadEnd(Residues):
        def allowed(self, count):
            if count == 5:
                self.error = "nothing follows"
            return set() if count >= 5 else super().allowed(count)

    for decode in ENGINES.values():
        rows = requests()
        rows[0] = dataclasses.replace(rows[0], grammar=DeadEnd())
        out, _ = decode(pair.target, pair.noisy, rows, num_speculative_tokens=2, max_sequences=10)
        assert (out["0"].finish_reason, out["0"].error) == (
            "error",
            "its grammar allows no further token: nothing follows",
        )
        assert [list(out[str(i)].token_ids) for i in range(1, 10)] == expected[1:]


@pytest.mark.slow
def test_rounds_are_launched_ahead_while_no_row_has_a_grammar(pair):
    made = fast.engine(pair.target, pair.noisy, num_speculative_tokens=2, max_sequences=2)
    depths = []
    launch = made._launch
    made._launch = lambda batch: (
        depths.append((made.runner.depth, any(s.request.grammar for s in batch))) or launch(batch)
    )
    fast.finish(made, requests())
    assert {depth for depth, has in depths if not has} == {1} or {(0, True), (1, False)} <= set(depths)
    assert all(depth == 0 for depth, has in depths if has)


def test_the_words_of_a_mask_cover_the_vocabulary():
    assert [mask_words(size) for size in (1, 32, 33, 64)] == [1, 1, 2, 2]
    mask = torch.tensor([[[5, -(2**31)]]], dtype=torch.int32)
    assert forbid(torch.zeros(1, 1, 64), mask).isfinite().nonzero()[:, 2].tolist() == [0, 2, 63]


def test_a_mask_of_one_bit_is_known_from_others():
    masks = torch.tensor([[0, 0], [4, 0], [0, -(2**31)], [1, 1], [0, 3], [-1, -1]], dtype=torch.int32)
    assert grammar._allow_one(masks) == [False, True, True, False, False, False]
