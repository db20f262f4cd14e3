"""Rows that ask for penalties, biases, bans and min-p: the target's own text in both engines, whatever is drafted."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs import pair as pairs
from specbatch.engine.logits import processors as logits_processors
from specbatch.engine.logits.options import NO_OPTIONS
from specbatch.engine.request import Request, SamplingParams
from tests.engine import tiny
from tests.engine.graphs import fast, joints
from tests.engine.logits import plain_options

ENGINES = {"general": tiny.decode, "graphs": fast.decode}
NEW = 18
GREEDY = (SamplingParams(),)
KINDS = list(plain_options.KINDS)


@pytest.fixture(scope="module")
def model():
    return tiny.qwen3()


@pytest.fixture(scope="module")
def expected(model):
    """A plain row first, then a row of each kind: greedy, by the definitions."""
    rows = tiny.prompts(len(KINDS) + 1)
    options = [NO_OPTIONS, *plain_options.WIDE.values()]
    return [plain_options.greedy(model, one, row, NEW) for one, row in zip(options, rows, strict=True)]


def requests(params=GREEDY, **changes):
    options = [NO_OPTIONS, *plain_options.WIDE.values()]
    rows = tiny.prompts(len(options))
    return [
        Request(str(i), row, NEW, sampling=params[i % len(params)], logits=one, **changes)
        for i, (row, one) in enumerate(zip(rows, options, strict=True))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("k", "batch"), [(0, 10), (1, 4), (2, 10), (3, 3), (4, 10)])
def test_greedy_rows_are_the_targets_own_by_the_definitions(pair, expected, engine, k, batch):
    """Refilled from a batch smaller than the rows, a row with options takes the slot of one without, and the other way round."""
    for drafter in (pair.noisy, NGramDrafter()):
        rows = requests()
        out, made = ENGINES[engine](pair.target, drafter, rows, num_speculative_tokens=k, max_sequences=batch)
        assert tiny.tokens(out, len(rows)) == expected
        assert k == 0 or made.stats.accepted > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_processor_left_out_gives_another_text(model, expected, kind):
    """Else the test above would prove nothing of it; min-p never changes a greedy row."""
    at = KINDS.index(kind) + 1
    plain = plain_options.greedy(model, NO_OPTIONS, tiny.prompts(len(KINDS) + 1)[at], NEW)
    assert (plain == expected[at]) == (kind == "min-p")


@pytest.mark.slow
def test_a_drafter_that_is_the_target_is_always_accepted(pair):
    """Penalties count the drafts of the round, and drafting a token and verifying it see the same."""
    for decode in ENGINES.values():
        for rule in ("coupled", "rejection"):
            rows = requests(params=[SamplingParams(1.0)])
            sizes = {"num_speculative_tokens": 4, "acceptance_rule": rule, "max_sequences": 10}
            _, made = decode(pair.target, pair.twin, rows, **sizes)
            assert made.stats.acceptance_rate == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_coupled_text_depends_on_neither_batch_nor_k_nor_drafter(pair, engine):
    texts = set()
    for batch, k, drafter in ((1, 0, None), (10, 4, pair.noisy), (4, 2, NGramDrafter()), (7, 3, pair.twin)):
        rows = requests(params=fast.MIXED, seed=5)
        out, _ = ENGINES[engine](pair.target, drafter, rows, max_sequences=batch, num_speculative_tokens=k)
        texts.add(str(tiny.tokens(out, len(rows))))
    assert len(texts) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "k"), [("coupled", 3), *(("rejection", k) for k in range(5))])
def test_both_engines_draw_the_same(pair, rule, k):
    sizes = {"num_speculative_tokens": k, "acceptance_rule": rule, "max_sequences": 10}
    texts = [
        tiny.tokens(decode(pair.target, pair.noisy, requests(params=fast.MIXED, seed=5), **sizes)[0], len(KINDS) + 1)
        for decode in ENGINES.values()
    ]
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_a_preempted_row_goes_on_as_it_was(pair, expected, monkeypatch):
    """Its penalties count the tokens that it had before."""
    monkeypatch.setattr(pairs, "page_counts", lambda *_: (1000, 1000))
    made = fast.engine(pair.target, pair.noisy, num_speculative_tokens=2, max_sequences=10)
    reserve, asked = made.runner.reserve, []

    def scarce(sequences, k):
        asked.append(len(sequences))
        return (len(asked) < 4 or len(sequences) <= 5 or len(asked) > 12) and reserve(sequences, k)

    monkeypatch.setattr(made.runner, "reserve", scarce)
    out = fast.finish(made, requests())
    assert 5 in asked[:12], "five rows wait anew"
    assert tiny.tokens(out, len(KINDS) + 1) == expected


def exact(model, prompt, params, options) -> np.ndarray:
    """Probability of the first tokens, by plain forwards and the definitions.  # [VOCAB] * LENGTH"""
    joint = np.ones(())
    for known in range(joints.LENGTH):
        before = list(itertools.product(range(joints.VOCAB), repeat=known))
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *tokens] for tokens in before])).logits[:, -1]
        scores = [
            plain_options.processed(one, options, prompt, list(tokens), params.temperature)
            for one, tokens in zip(logits, before, strict=True)
        ]
        step = (torch.stack(scores) / params.temperature).softmax(-1).numpy()
        joint = joint[..., None] * step.reshape(*[joints.VOCAB] * known, joints.VOCAB)
    return joint


def worst_p_value(engine: str, kinds, *, rule: str, k: int, rows: int = 6_000) -> float:
    model, params = joints.small_llama(), SamplingParams(0.9)
    plain = copy.deepcopy(model)
    drafter = ModelDrafter(CausalLM(tiny.noisy(model, 0.5)))
    prompts = [[1, 2, 3 + j % 4] for j in range(len(kinds))]
    all_rows = (
        Request(f"{i}-{j}", prompts[j], joints.LENGTH + k, sampling=params, seed=3, logits=plain_options.KINDS[kind])
        for i in range(rows // len(kinds))
        for j, kind in enumerate(kinds)
    )
    sizes = {"max_sequences": 256, "num_speculative_tokens": k, "acceptance_rule": rule, "max_length": 16}
    out, made = ENGINES[engine](CausalLM(model), drafter, all_rows, **sizes)
    assert 0.05 < made.stats.acceptance_rate < 0.95
    found = []
    for j, kind in enumerate(kinds):
        tokens = np.array([list(c.token_ids)[: joints.LENGTH] for name, c in out.items() if name.endswith(f"-{j}")])
        found.append(joints.p_value(tokens, exact(plain, prompts[j], params, plain_options.KINDS[kind])))
    return min(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "rule", "k"),
    [("general", "coupled", 3), *(("general", "rejection", k) for k in (1, 4)), ("graphs", "rejection", 2)],
)
def test_the_joint_of_three_tokens_is_the_targets(engine, rule, k):
    """With what is above, of every k in both engines: coupled texts are those of every other k, and both engines draw the same."""
    assert worst_p_value(engine, KINDS, rule=rule, k=k) > joints.PASS


@pytest.mark.slow
def test_rounds_whose_drafts_do_not_count_fail_the_same_test(monkeypatch):
    real = logits_processors._penalise

    def blind(scores, options, at, **kwargs):
        real(scores, options, at._replace(positions=at.positions[:, :1].expand_as(at.positions)), **kwargs)

    monkeypatch.setattr(logits_processors, "_penalise", blind)
    assert worst_p_value("graphs", ["presence"], rule="rejection", k=2) < joints.PASS


@pytest.mark.slow
def test_rows_without_options_are_not_processed(pair, monkeypatch):
    """Neither tensors nor work: the rounds of plain rows are those of a run that knows no options."""

    def never(*_, **__):
        raise AssertionError

    for place in (
        "specbatch.engine.general.batch.process",
        "specbatch.engine.graphs.reference.TorchOps.process_logits",
    ):
        monkeypatch.setattr(place, never)
    rows = [dataclasses.replace(row, logits=NO_OPTIONS) for row in requests(params=fast.MIXED)]
    for decode in ENGINES.values():
        decode(pair.target, pair.noisy, rows, num_speculative_tokens=2)
