"""Router and choice of experts against their reference in PyTorch."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.describe.description import Routing
from specbatch.engine.graphs.kernels.experts.routing import norm_scores, route
from specbatch.engine.graphs.reference import TorchOps
from tests.engine.graphs.kernels.test_elementwise import DEVICE, DTYPES, random

PADDING = 9
SLOTS = [0, PADDING, 3, 1, 1, PADDING, 2]
ROUTINGS = [
    Routing(8, 2),
    Routing(8, 8, normed=True),
    Routing(6, 2, "sigmoid", normed=True, scale=2.5),
    Routing(12, 3, "sigmoid", groups=4, kept_groups=2, normed=True),
    Routing(20, 3, groups=5, kept_groups=3),
]


def slots():
    return torch.tensor(SLOTS, device=DEVICE)


def dense(routed, count):
    weights, experts = routed
    return torch.zeros(len(weights), count + 1, device=DEVICE).scatter_(1, experts.long(), weights)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [32, 96])
def test_logits_behind_a_norm_are_the_references(hidden, dtype, wide):
    x, norm = random(len(SLOTS), hidden, dtype=dtype), random(hidden, dtype=dtype, seed=1)
    router = random(4, hidden, dtype=torch.float32 if wide else dtype, seed=2)
    chooses = router, None, Routing(3, 2), slots(), PADDING
    normed, logits = norm_scores(x, norm, 1e-6, router)
    expected, theirs, _ = TorchOps().route(x, norm, 1e-6, *chooses)
    near = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(normed, expected, rtol=near, atol=near)
    torch.testing.assert_close(logits, theirs, rtol=near, atol=near * hidden**0.5)
    same, alone = norm_scores(x, None, 0.0, router)
    assert same is x
    torch.testing.assert_close(alone, x.float() @ router.float().t(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("routing", ROUTINGS, ids=str)
def test_tokens_go_to_the_references_experts_and_fillers_nowhere(routing, biased):
    count = routing.experts
    logits = random(len(SLOTS), count + 1)
    chooses = random(count, seed=4) if biased else None, routing, slots(), PADDING
    theirs = TorchOps().route(logits, None, 0.0, torch.eye(count + 1, device=DEVICE), *chooses)[2]
    ours = route(logits, *chooses)
    torch.testing.assert_close(dense(ours, count), dense(theirs, count), rtol=1e-5, atol=1e-6)
    filler = slots() == PADDING
    assert ours[1][filler].eq(count).all()
    assert ours[0][filler].eq(0).all()
    assert all(len(set(line)) == routing.per_token for line in ours[1][~filler].tolist())


@pytest.mark.filterwarnings("ignore:invalid value")  # of NumPy, under the interpreter
def test_logits_that_are_no_numbers_choose_experts_that_there_are():
    logits = torch.full((2, 6), float("nan"), device=DEVICE)
    weights, experts = route(logits, None, Routing(6, 2, normed=True), slots()[2:4], PADDING)
    assert weights.isnan().all()
    assert experts.ge(0).all()
    assert experts.lt(6).all()
