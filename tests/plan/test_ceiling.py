import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.plan.ceiling import Assumptions, ceiling_of, predict, tokens_a_round
from specbatch.plan.devices import parse_gpus
from specbatch.plan.placing import Group, Replica
from tests.plan.builders import H100, plan_of, shape

GPUS = {f"cuda:{index}": H100 for index in range(8)}
TARGET, DRAFTER = shape("qwen3-8b"), shape("qwen3-1.7b")
SAME = Replica(Group(TARGET, ("cuda:0",)), Group(DRAFTER, ("cuda:0",)))
SEPARATE = Replica(Group(TARGET, ("cuda:0",)), Group(DRAFTER, ("cuda:1",)))


def assumed(rows, **others):
    return Assumptions(rows=rows, **({"mean_length": 1024, "acceptance_rate": 0.8} | others))


@pytest.mark.parametrize(("rows", "alone", "with_drafts"), [(1, 220, 386), (32, 5400, 7600), (128, 12400, 14700)])
def test_the_ceilings_of_the_measured_table_come_out(rows, alone, with_drafts):
    ceiling = predict(SAME, GPUS, assumed(rows))
    assert ceiling.target_only == pytest.approx(alone, rel=0.03)
    assert ceiling.tokens_per_second == pytest.approx(with_drafts, rel=0.03)


@pytest.mark.parametrize(("rows", "gain"), [(128, 1.2), (256, 1.1)])
def test_a_1_7b_drafter_gains_little_at_many_rows(rows, gain):
    ceiling = predict(SAME, GPUS, assumed(rows))
    assert ceiling.tokens_per_second / ceiling.target_only == pytest.approx(gain, abs=0.03)


def test_k_falls_to_zero_where_arithmetic_is_the_limit():
    ceiling = predict(SAME, GPUS, assumed(512, mean_length=16))
    assert ceiling.num_speculative_tokens == 0
    assert ceiling.tokens_per_second == ceiling.target_only


def test_a_round_commits_the_geometric_sum():
    assert tokens_a_round(0.8, 4) == pytest.approx((1 - 0.8**5) / (1 - 0.8))
    assert tokens_a_round(1.0, 4) == 5
    assert tokens_a_round(0.0, 4) == 1


def test_separate_without_pipelining_is_no_faster_than_same():
    apart, together = predict(SEPARATE, GPUS, assumed(32)), predict(SAME, GPUS, assumed(32))
    assert apart.tokens_per_second == pytest.approx(together.tokens_per_second)


def test_two_micro_batches_hide_the_faster_model_behind_the_slower():
    k, rows = 3, 32
    one = predict(SEPARATE, GPUS, assumed(rows, fixed_k=k))
    two = predict(SEPARATE, GPUS, assumed(2 * rows, fixed_k=k))
    seconds = rows * tokens_a_round(0.8, k) / one.tokens_per_second  # T_v + T_d
    verify = rows / predict(SEPARATE, GPUS, assumed(rows, fixed_k=0)).target_only
    slower = max(verify, seconds - verify)
    assert two.pipelined_tokens_per_second == pytest.approx(rows * tokens_a_round(0.8, k) / slower, rel=0.02)


def test_a_layer_split_gains_nothing_without_micro_batches():
    split = Replica(Group(TARGET, tuple(GPUS)), None)
    whole = Replica(Group(TARGET, ("cuda:0",)), None)
    alone = assumed(512, fixed_k=0)
    assert predict(split, GPUS, alone).tokens_per_second == pytest.approx(
        predict(whole, GPUS, alone).tokens_per_second, rel=0.001
    )
    assert predict(split, GPUS, alone).pipelined_tokens_per_second > 3 * predict(whole, GPUS, alone).tokens_per_second


def test_replicas_multiply():
    one, eight = predict(SAME, GPUS, assumed(32)), predict(SAME, GPUS, assumed(32), replicas=8)
    assert eight.tokens_per_second == pytest.approx(8 * one.tokens_per_second)


def test_drafts_of_an_ngram_drafter_cost_no_reading():
    free = predict(Replica(Group(TARGET, ("cuda:0",)), None), GPUS, assumed(1, fixed_k=4))
    paid = predict(SAME, GPUS, assumed(1, fixed_k=4))
    assert free.tokens_per_second > 1.5 * paid.tokens_per_second


@given(rows=st.integers(1, 512), rate=st.floats(0, 1), length=st.integers(1, 8192))
def test_the_best_k_is_never_below_the_target_alone(rows, rate, length):
    ceiling = predict(SAME, GPUS, assumed(rows, acceptance_rate=rate, mean_length=length))
    assert ceiling.tokens_per_second >= ceiling.target_only
    assert ceiling.pipelined_tokens_per_second >= ceiling.tokens_per_second * (1 - 1e-9)


def test_a_plan_can_be_judged_by_what_a_run_measured():
    gpus = parse_gpus("8xH100")
    plan = plan_of("8xH100", "placement.strategy=same")
    again = ceiling_of(plan, TARGET, DRAFTER, gpus, assumed(plan.max_sequences, mean_length=2048))
    assert again == plan.ceiling
    worse = ceiling_of(plan, TARGET, DRAFTER, gpus, assumed(plan.max_sequences, mean_length=2048, acceptance_rate=0.2))
    assert worse.tokens_per_second < plan.ceiling.tokens_per_second
