"""Sampled rows with a grammar: the joint of their first tokens is the masked target's, by both rules, with a drafter that disagrees."""

import itertools

import numpy as np
import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.logits import processors as logits_processors
from specbatch.engine.request import Request, SamplingParams
from tests.engine import tiny
from tests.engine.graphs import joints
from tests.engine.logits.test_grammar import ENGINES, Residues


class Alternating(Residues):
    """Token t may follow position i where t % 3 != i % 3: what may come next hangs on the drafts before."""

    def allowed(self, count):
        return {token for token in range(joints.VOCAB) if token % 3 != count % 3}


def exact(model, prompt) -> np.ndarray:
    """Probability of the first tokens, by plain forwards and masks.  # [VOCAB] * LENGTH"""
    joint = np.ones(())
    for known in range(joints.LENGTH):
        before = [[*prompt, *tokens] for tokens in itertools.product(range(joints.VOCAB), repeat=known)]
        with torch.inference_mode():
            logits = model(torch.tensor(before)).logits[:, -1]
        banned = torch.tensor([token not in Alternating().allowed(known) for token in range(joints.VOCAB)])
        masked = logits.masked_fill(banned, -torch.inf).double()
        joint = joint[..., None] * masked.softmax(-1).numpy().reshape(*[joints.VOCAB] * known, joints.VOCAB)
    return joint


def joint_p_value(engine, rule, k=2) -> float:
    model = joints.small_llama()
    expected, drafter = exact(model, [1, 2, 3]), ModelDrafter(CausalLM(tiny.noisy(model, 0.5)))
    rows = (
        Request(str(i), [1, 2, 3], joints.LENGTH + k, sampling=SamplingParams(1.0), seed=3, grammar=Alternating())
        for i in range(1_200)
    )
    sizes = {"max_sequences": 256, "num_speculative_tokens": k, "acceptance_rule": rule, "max_length": 16}
    out, made = ENGINES[engine](CausalLM(model), drafter, rows, **sizes)
    assert 0.05 < made.stats.acceptance_rate < 0.95
    return joints.p_value(np.array([list(c.token_ids)[: joints.LENGTH] for c in out.values()]), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "rule", "k"),
    [("general", "coupled", 2), *(("general", "rejection", k) for k in (1, 3, 4)), ("graphs", "rejection", 2)],
)
def test_the_joint_of_three_tokens_is_the_masked_targets(engine, rule, k):
    assert joint_p_value(engine, rule, k) > joints.PASS


@pytest.mark.slow
def test_masks_that_leave_a_little_out_fail_the_same_test(monkeypatch):
    """A token that is half as likely as it should be."""
    real = logits_processors.forbid

    def askew(scores, mask):
        real(scores, mask)[..., 4] -= 0.7

    monkeypatch.setattr(logits_processors, "forbid", askew)
    assert joint_p_value("general", "rejection") < joints.PASS
