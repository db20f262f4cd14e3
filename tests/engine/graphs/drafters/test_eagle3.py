"""An EAGLE-3 head in captured rounds drafts what it drafts in the general engine, which is held against the paper."""

import copy
import itertools

import pytest
import torch

from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.triton_ops import TritonOps
from specbatch.engine.make_engine import why_general
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sequence import SequenceState
from tests.engine import heads, tiny
from tests.engine.graphs import fast

CONFIGS = {
    "SafeAILab": heads.safeailab(),
    "speculators": heads.speculators({"model_type": "qwen3"}, norm_before_residual=True, norm_before_fc=True),
    "the last layer's input": heads.safeailab(draft_vocab_size=tiny.VOCAB, eagle_aux_hidden_state_layer_ids=[0, 6]),
}


@pytest.fixture(scope="module")
def target():
    model = tiny.qwen3(layers=7)
    rows = [
        row for row in tiny.prompts(14, longest=90) if len(row) > 1
    ]  # before a first token there is nothing to draft from
    return CausalLM(copy.deepcopy(model)), rows, tiny.greedy_reference(model, rows, tiny.NEW)


def made(tmp_path, target, config):
    joined = len(config.get("eagle_aux_hidden_state_layer_ids", [1, 2, 3]))
    return heads.load(heads.write(tmp_path, config, heads.weights(config, joined=joined)), target)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_rounds_drafts_and_acceptances_are_those_of_the_general_engine(name, target, tmp_path):
    """Stale KV of a refilled slot, or states of another position, would show here while the text stays right."""
    lm, prompts, expected = target
    drafter = made(tmp_path, lm, CONFIGS[name])
    lengths = [3, 17, 9, 21, 25]
    sizes = {"max_sequences": 3, "num_speculative_tokens": 3}
    out, engine = fast.decode(lm, drafter, fast.stopped(prompts, lengths), **sizes)
    general, _ = tiny.decode(lm, drafter, fast.stopped(prompts, lengths), **sizes)
    assert all(tokens == expected[i][: len(tokens)] for i, tokens in enumerate(tiny.tokens(out, len(prompts))))
    assert fast.counts(out) == fast.counts(general)
    assert engine.stats.catch_up_seconds == 0


@pytest.mark.slow
def test_a_few_rows_with_a_head_give_what_transformers_gives(target, tmp_path):
    lm, prompts, expected = target
    drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    out, engine = fast.decode(lm, drafter, fast.requests(prompts[:5], 12), max_sequences=3, num_speculative_tokens=3)
    assert tiny.tokens(out, 5) == [tokens[:12] for tokens in expected[:5]]
    assert engine.stats.drafted > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "k"), [("coupled", 0), ("coupled", 1), ("rejection", 2), ("coupled", 4), ("coupled", None)]
)
def test_a_head_that_is_mostly_wrong_changes_no_token(rule, k, target, tmp_path):
    lm, prompts, expected = target
    drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    sizes = {"max_sequences": 6, "num_speculative_tokens": k, "max_speculative_tokens": 3, "acceptance_rule": rule}
    out, _ = fast.decode(lm, drafter, fast.requests(prompts[:9]), **sizes)
    assert tiny.tokens(out, 9) == expected[:9]


@pytest.mark.slow
def test_drawn_rows_have_the_drafts_of_the_general_engine(target, tmp_path):
    lm, prompts, _ = target
    drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    for rule in ("coupled", "rejection"):
        sizes = {"max_sequences": 4, "num_speculative_tokens": 3, "acceptance_rule": rule}
        out, _ = fast.decode(lm, drafter, fast.stopped(prompts, [20], fast.MIXED), **sizes)
        general, _ = tiny.decode(lm, drafter, fast.stopped(prompts, [20], fast.MIXED), **sizes)
        assert tiny.tokens(out, len(prompts)) == tiny.tokens(general, len(prompts))
        assert fast.counts(out) == fast.counts(general)


@pytest.mark.slow
@pytest.mark.parametrize("ks", [(0, 3, 0, 1), (3, 0, 0, 0, 0, 0, 8, 1)])
def test_rounds_without_drafts_leave_nothing_to_catch_up_with(ks, target, tmp_path):
    lm, prompts, expected = target
    drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    controller = fast.Scripted(ks)
    out, engine = fast.decode(lm, drafter, fast.stopped(prompts), controller, max_sequences=5, num_speculative_tokens=8)
    assert tiny.tokens(out, len(prompts)) == expected
    assert not any(controller.lags)
    assert engine.stats.drafted > 0


@pytest.mark.slow
def test_a_preempted_row_drafts_as_if_it_had_not_been(target, tmp_path, monkeypatch):
    lm, prompts, expected = target
    drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    rows = fast.requests(prompts)
    engine = fast.engine(lm, drafter, max_sequences=4, num_speculative_tokens=3)
    engine.warmup()
    reserve, asked = engine.runner.reserve, itertools.count()
    monkeypatch.setattr(
        engine.runner,
        "reserve",
        lambda sequences, k: reserve(sequences, k) and (len(sequences) < 3 or next(asked) % 5 != 4),
    )
    out = fast.finish(engine, rows)
    assert next(asked) > 5
    assert tiny.tokens(out, len(prompts)) == expected
    alone, _ = tiny.decode(lm, drafter, fast.requests(prompts), max_sequences=4, num_speculative_tokens=3)
    accepted = sum(c.accepted for c in out.values()) / sum(c.drafted for c in out.values())
    assert accepted == pytest.approx(
        sum(c.accepted for c in alone.values()) / sum(c.drafted for c in alone.values()), abs=0.05
    )


@pytest.mark.slow
def test_the_kernels_draft_what_the_reference_drafts(tmp_path, monkeypatch):
    lm, prompt = CausalLM(tiny.qwen3(layers=3)), tiny.prompts(6)[3][:9]
    drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    found = []
    for ops in (TorchOps(), TritonOps()):
        monkeypatch.setattr("specbatch.engine.graphs.pair.operations", lambda _, ops=ops: ops)
        pair = fast.engine(lm, drafter, max_sequences=1, num_speculative_tokens=2, max_length=32).runner.pair
        row = SequenceState(Request("0", prompt, 8))
        pair.target_pool.grow(0, len(prompt) + 4)
        pair.target_pool.upload()
        with torch.inference_mode():
            pair.join([0], [row])
            pair.prefill.fill([(0, 0, row.length)])
            pair.place([0])
            pair.draft(1, 2, Mode.of([SamplingParams()]))
            pair.verify(1, 2, Mode.of([SamplingParams()]))
            pair.draft(1, 2, Mode.of([SamplingParams()]))
        head = pair.drafter.head
        found.append(
            (pair.state.history[0, : len(prompt) + 6].clone(), head.states[0].clone(), head.stage.kv.keys[0].clone())
        )
    (history, states, keys), (other_history, other_states, other_keys) = found
    assert history.tolist() == other_history.tolist()
    torch.testing.assert_close(states, other_states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(keys, other_keys, rtol=1e-4, atol=1e-4)


def test_a_head_apart_from_its_target_runs_in_the_general_engine(target, tmp_path):
    lm, *_ = target
    drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    assert why_general(lm, drafter) == "the target is not on GPUs"
    drafter.head.to("meta")
    assert why_general(lm, drafter) == "an EAGLE-3 head has a fast path only on the GPU that holds the whole target"


def test_a_target_without_a_head_keeps_no_states(target):
    lm, *_ = target
    engine = fast.engine(lm, None, max_sequences=2)
    assert engine.runner.pair.drafter.taps(4) is None
    assert engine.runner.pair.prefill.head is None
