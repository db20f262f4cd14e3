"""Tokens that a grammar forces are drafted by it: in both engines, by both rules, and no text is another for it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter, Proposal
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs import verifier
from specbatch.engine.logits.options import LogitsOptions, TokenBias
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.speculation.controller import FixedK
from specbatch.engine.speculation.forced_drafts import most_worth
from tests.engine import tiny
from tests.engine.graphs import fast, joints
from tests.engine.logits.test_grammar import END, ENGINES, NEW, Residues


class Keyed(Residues):
    """Of five tokens three are forced; END alone from the 12th on."""

    def allowed(self, count):
        return {20 + count} if count % 5 in {1, 2, 3} and count < 12 else super().allowed(count)

    def forced(self, most):
        at, found = len(self.tokens) + len(self.ahead), []
        while len(found) < most and len(alone := self.allowed(at + len(found))) == 1 and END not in found:
            found += alone
        return found


class Unaware(Keyed):
    """The same, and does not say what it forces."""

    def forced(self, most):
        return []


class Wrong(Keyed):
    """Says that tokens are forced which are not."""

    def forced(self, most):
        at = len(self.tokens) + len(self.ahead)
        return [min(self.allowed(at + each)) for each in range(most)]


GREEDY = (SamplingParams(),)
DRAWN = (SamplingParams(), SamplingParams(1.1), SamplingParams(0.8, top_p=0.9))


def requests(kind, params=GREEDY, rows=3):
    ends = frozenset({END})
    return [
        Request(str(i), row, NEW, params[i % len(params)], seed=4, grammar=kind(), eos_token_ids=ends)
        for i, row in enumerate(tiny.prompts(rows))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_target_alone_has_the_same_texts_in_fewer_rounds(pair, engine, batch):
    sizes = {"num_speculative_tokens": 0, "max_sequences": batch}
    rounds, texts = [], []
    for kind in (Unaware, Keyed):
        out, made = ENGINES[engine](pair.target, None, requests(kind, DRAWN), **sizes)
        texts.append(tiny.tokens(out, 3))
        rounds.append(made.stats.rounds)
        assert made.stats.emitted <= made.stats.accepted + made.stats.row_rounds
    assert texts[0] == texts[1]
    assert rounds[1] < 0.7 * rounds[0]
    assert made.stats.grammar_accepted == made.stats.grammar_drafted == made.stats.drafted == made.stats.accepted > 0
    assert made.stats.target_only_slowdown is None, "any engine may draft what a grammar forces"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("drafter", ["noisy", "ngram"])
def test_a_drafter_does_not_run_where_all_its_drafts_would_be_forced(pair, engine, rule, drafter):
    by = pair.noisy if drafter == "noisy" else NGramDrafter()
    greedy = GREEDY if rule == "rejection" else DRAWN  # by rejection a text hangs on where rounds begin
    sizes = {"num_speculative_tokens": 2, "max_sequences": 3, "acceptance_rule": rule}
    plain, _ = ENGINES[engine](pair.target, by, requests(Unaware, greedy), **sizes)
    out, made = ENGINES[engine](pair.target, by, requests(Keyed, greedy), **sizes)
    assert tiny.tokens(out, 3) == tiny.tokens(plain, 3)
    assert made.stats.grammar_accepted > 0
    assert sum(row.accepted for row in out.values()) == made.stats.accepted


class StopAt:
    """A stop string that is complete with the row's so manieth token."""

    def __init__(self, count):
        self.left = count

    def __call__(self, new):
        self.left -= len(new)
        return len(new) + self.left if self.left <= 0 else None


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stop", [6, 7, 8])
def test_a_row_that_stops_before_a_ban_of_what_its_grammar_forces_is_no_error(pair, engine, stop):
    """The eighth token is 27 alone, and may not be: behind a draft that is accepted no token is left."""
    banned, texts = LogitsOptions(bias=(TokenBias(27, float("-inf")),)), set()
    for drafter, k in ((None, 0), (pair.twin, 4)):
        row = Request("0", tiny.prompts(3)[2], NEW, logits=banned, grammar=Keyed(), stop=StopAt(stop))
        out, _ = ENGINES[engine](pair.target, drafter, [row], num_speculative_tokens=k, max_sequences=1)
        texts.add((tuple(out["0"].token_ids), out["0"].finish_reason))
    assert len(texts) == 1
    assert texts.pop()[1] == ("error" if stop == 8 else "stop")


class Told(FixedK):
    """Keeps what it is told."""

    def __init__(self, k):
        super().__init__(k)
        self.reports = []

    def observe(self, report):
        self.reports.append(report)


@pytest.mark.slow
def test_a_controller_learns_of_the_drafters_own_drafts_alone(pair):
    told = Told(2)
    _, made = fast.decode(pair.target, pair.twin, requests(Keyed), told, num_speculative_tokens=2, max_sequences=2)
    own, of_grammars = sum(sum(each.proposed_at) for each in told.reports), sum(each.forced for each in told.reports)
    assert 0 < of_grammars < made.stats.grammar_accepted, "there were rounds of grammars alone, too"
    assert own <= made.stats.drafted - made.stats.grammar_drafted
    assert sum(sum(each.accepted_at) for each in told.reports) == made.stats.accepted - made.stats.grammar_accepted


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_forced_comes_before_what_is_looked_up(pair, engine):
    accepted, texts = [], []
    for kind in (Unaware, Keyed):
        rows = [replace(row, grammar=kind() if i else None) for i, row in enumerate(requests(kind, DRAWN))]
        sizes = {"num_speculative_tokens": 4, "max_sequences": 3}
        out, made = ENGINES[engine](pair.target, fast.OwnText(), rows, **sizes)
        texts.append(tiny.tokens(out, 3))
        accepted.append((made.stats.grammar_accepted, made.stats.row_rounds))
    assert texts[0] == texts[1]
    assert accepted[1][0] > accepted[0][0]
    assert accepted[1][1] < accepted[0][1]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_grammar_that_is_wrong_about_what_it_forces_changes_no_text(pair, engine):
    sizes = {"num_speculative_tokens": 0, "max_sequences": 3}
    plain, _ = ENGINES[engine](pair.target, None, requests(Unaware, DRAWN), **sizes)
    out, made = ENGINES[engine](pair.target, None, requests(Wrong, DRAWN), **sizes)
    assert tiny.tokens(out, 3) == tiny.tokens(plain, 3)
    assert made.stats.accepted < made.stats.drafted


class Guessing(Residues):
    """Any token may follow; it says that the first two are forced."""

    def allowed(self, count):
        return set(range(joints.VOCAB))

    def forced(self, most):
        return [3] * min(most, 2 - len(self.tokens)) if len(self.tokens) < 2 else []


def joint_p_value(engine):
    """Of the first three tokens by the rejection rule, against plain forwards; and how many drafts of grammars were accepted, of how many."""
    model, prompt, joint = joints.small_llama(), [1, 2, 3], np.ones(())
    for known in range(joints.LENGTH):
        before = [[*prompt, *tokens] for tokens in itertools.product(range(joints.VOCAB), repeat=known)]
        with torch.inference_mode():
            probs = model(torch.tensor(before)).logits[:, -1].double().softmax(-1).numpy()
        joint = joint[..., None] * probs.reshape(*[joints.VOCAB] * known, joints.VOCAB)
    rows = [
        Request(str(i), prompt, joints.LENGTH + 2, sampling=SamplingParams(1.0), seed=3, grammar=Guessing())
        for i in range(1_200)
    ]
    sizes = {"max_sequences": 256, "num_speculative_tokens": 2, "acceptance_rule": "rejection", "max_length": 16}
    drafter = ModelDrafter(CausalLM(tiny.noisy(model, 0.5)))
    out, made = ENGINES[engine](CausalLM(model), drafter, rows, **sizes)
    counted = made.stats.grammar_accepted, made.stats.grammar_drafted
    return joints.p_value(np.array([list(c.token_ids)[: joints.LENGTH] for c in out.values()]), joint), *counted


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_joint_of_three_tokens_is_the_targets_whatever_a_grammar_says_is_forced(engine):
    p_value, accepted, drafted = joint_p_value(engine)
    assert p_value > joints.PASS
    assert 0 < accepted < drafted


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_drafts_that_are_taken_for_drawn_fail_the_same_test(engine, monkeypatch):
    """As if the target had drawn them itself: they would always stand."""
    given = Proposal.given

    def drawn(drafts, batch, rule, vocab_size):
        proposal = given(drafts, batch, rule, vocab_size)
        return Proposal(proposal.tokens, proposal.num_drafted, torch.zeros_like(proposal.probs))

    monkeypatch.setattr(Proposal, "given", staticmethod(drawn))
    monkeypatch.setattr(verifier, "certainly", lambda drafts, probs: torch.zeros_like(probs[:, : drafts.shape[1]]))
    p_value, accepted, drafted = joint_p_value(engine)
    assert p_value < joints.PASS
    assert 0 < accepted == drafted


@pytest.mark.parametrize(
    ("forced", "widths", "free", "width"),
    [
        ([2], [0, 1, 2, 4], 8, 2),
        ([8], [0, 1, 2, 4], 4, 4),
        ([0, 0, 0], [0, 1, 2], 8, 0),
        ([0, 0, 0, 4], [0, 1, 2, 4], 128, 4),
        ([0, 0, 0, 4], [0, 1, 2, 4], 4, 0),
        ([1] * 128, [0, 1, 2], 128, 0),
        ([4] * 128, [2, 4], 128, 2),
    ],
)
def test_positions_are_verified_beside_where_that_gives_more_tokens_a_second(forced, widths, free, width):
    assert most_worth(forced, widths, free) == width
