from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.plan.ceiling import HOST_SECONDS, Visit, cycle_seconds, predict, predict_all, tokens_per_round
from specbatch.plan.gpus import parse_gpus
from specbatch.plan.shapes.read_shape import read_shape
from specbatch.plan.types import Speculation
from tests.plan.builders import H100, replica, request, shape

GPUS = {f"cuda:{index}": H100 for index in range(8)}
TARGET, DRAFTER = shape("qwen3-8b"), shape("qwen3-1.7b")
SAME = replica(TARGET, "cuda:0", drafter=DRAFTER, on="cuda:0")
SEPARATE = replica(TARGET, "cuda:0", drafter=DRAFTER, on="cuda:1")
WHOLE = replica(TARGET, "cuda:0")


def ceiling(placed, rows, *, replicas=1, **others):
    drafter = DRAFTER if placed.drafter else None
    defaults = {"mean_length": 1024, "acceptance_rate": 0.8, "speculation": Speculation(8, is_adaptive=True)}
    return predict(replace(request(TARGET, drafter, gpus=GPUS), **(defaults | others)), placed, rows, replicas=replicas)


def fixed(k):
    return Speculation(k, is_adaptive=False)


@pytest.mark.parametrize(("rows", "alone", "with_drafts"), [(1, 220, 386), (32, 5400, 7600), (128, 12400, 14700)])
def test_the_ceilings_of_the_measured_table_come_out(rows, alone, with_drafts):
    found = ceiling(SAME, rows)
    assert found.target_only == pytest.approx(alone, rel=0.03)
    assert found.tokens_per_second == pytest.approx(with_drafts, rel=0.03)


@pytest.mark.parametrize(("rows", "gain"), [(128, 1.2), (256, 1.1)])
def test_a_1_7b_drafter_gains_little_at_many_rows(rows, gain):
    found = ceiling(SAME, rows)
    assert found.tokens_per_second / found.target_only == pytest.approx(gain, abs=0.03)


def test_k_falls_to_zero_where_arithmetic_is_the_limit():
    found = ceiling(SAME, 512, mean_length=16)
    assert found.num_speculative_tokens == 0
    assert found.tokens_per_second == found.target_only


@pytest.mark.parametrize(("tokens", "read"), [(1, 8), (6, 41.1), (32, 111.8), (1e6, 128)])
def test_a_mixture_is_taken_to_read_the_experts_that_tokens_choose_evenly(tokens, read):
    sparse = read_shape("Qwen/Qwen3-30B-A3B")
    assert sparse.different_experts(tokens) == pytest.approx(read, abs=0.1)
    assert TARGET.different_experts(tokens) == 0


def test_drafts_for_a_mixture_pay_less_since_a_verification_reads_more_experts():
    sparse = read_shape("Qwen/Qwen3-30B-A3B")
    pair = replica(sparse, "cuda:0", drafter=DRAFTER, on="cuda:0")
    found = ceiling(pair, 1, target=sparse, drafter=None, speculation=fixed(4))
    dense = ceiling(SAME, 1, drafter=None, speculation=fixed(4))
    assert found.tokens_per_second < 1.5 * found.target_only
    assert dense.tokens_per_second > 3 * dense.target_only


def test_a_round_commits_the_geometric_sum():
    assert tokens_per_round(0.8, 4) == pytest.approx((1 - 0.8**5) / (1 - 0.8))
    assert tokens_per_round(1.0, 4) == 5
    assert tokens_per_round(0.0, 4) == 1


def test_separate_with_one_group_is_no_faster_than_same():
    apart, together = ceiling(SEPARATE, 32, groups=1), ceiling(SAME, 32)
    assert apart.groups == 1
    assert apart.tokens_per_second < together.tokens_per_second  # by the moves between the GPUs
    assert apart.tokens_per_second == pytest.approx(together.tokens_per_second, rel=0.01)


def test_two_groups_hide_the_faster_model_behind_the_slower():
    k, rows = 3, 32
    one = ceiling(SEPARATE, rows, speculation=fixed(k), groups=1)
    two = ceiling(SEPARATE, 2 * rows, speculation=fixed(k))
    seconds = rows * tokens_per_round(0.8, k) / one.tokens_per_second  # T_v + T_d
    verify = rows / ceiling(SEPARATE, rows, speculation=fixed(0), groups=1).target_only
    slower = max(verify, seconds - verify)
    assert two.groups == 2
    assert two.tokens_per_second == pytest.approx(rows * tokens_per_round(0.8, k) / slower, rel=0.02)
    assert two.one_group < two.tokens_per_second


def test_a_layer_split_gains_nothing_with_one_group():
    split, whole = (ceiling(placed, 512, speculation=fixed(0)) for placed in (replica(TARGET, *GPUS), WHOLE))
    assert split.one_group == pytest.approx(whole.tokens_per_second, rel=0.01)
    assert split.tokens_per_second > 3 * whole.tokens_per_second


@pytest.mark.parametrize(("k", "times"), [(1, 1.9), (2, 1.33), (4, 1.14), (8, 1.07)])
def test_a_drafter_in_two_stages_is_the_less_faster_the_more_it_drafts(k, times):
    """Each draft passes through both before the next begins, and no other group's comes between: stages overlap in the last one alone."""
    whole, half = Visit("c", True, 1.0), [Visit("c", True, 0.5, part=0), Visit("d", True, 0.5, part=1)]
    verify = Visit("a", False, 0.1)
    one, two = (cycle_seconds([*drafts, verify], groups=9) for drafts in (k * [whole], k * half))
    assert one / two == pytest.approx(times, rel=0.06)


def test_a_tied_head_on_the_first_gpu_keeps_no_group_from_beginning():
    tied = shape("qwen3-1.7b")
    asked = replace(request(tied, gpus=GPUS), mean_length=1024, speculation=fixed(0))
    found = predict(asked, replica(tied, "cuda:0", "cuda:1"), 256)
    assert found.groups > 1
    assert found.tokens_per_second > 1.5 * found.one_group


def test_over_several_gpus_the_host_bounds_the_rounds():
    """A split of a model that a GPU reads in half a millisecond."""
    small = shape("qwen3-0.6b")
    asked = replace(request(small, gpus=GPUS), speculation=fixed(0), mean_length=64)
    found = predict(asked, replica(small, *GPUS), 8)
    assert found.tokens_per_second <= 8 / HOST_SECONDS
    assert found.groups == 1  # more would only be launched more often


def test_the_spec_may_fix_the_groups():
    two, free = ceiling(SEPARATE, 64, groups=2), ceiling(SEPARATE, 64)
    assert (two.groups, two.one_group) == (2, None)
    assert two.tokens_per_second <= free.tokens_per_second * 1.0001


def test_models_without_a_fast_path_have_one_group():
    slots = replace(TARGET, architecture="cohere2")
    found = predict(replace(request(slots, gpus=GPUS), speculation=fixed(0)), replica(slots, "cuda:0", "cuda:1"), 64)
    assert found.groups == 1


def test_replicas_multiply():
    one, eight = ceiling(SAME, 32), ceiling(SAME, 32, replicas=8)
    assert eight.tokens_per_second == pytest.approx(8 * one.tokens_per_second)


def test_drafts_of_an_ngram_drafter_cost_no_reading():
    free = ceiling(WHOLE, 1, speculation=fixed(4))
    paid = ceiling(SAME, 1, speculation=fixed(4))
    assert free.tokens_per_second > 1.5 * paid.tokens_per_second


@given(rows=st.integers(1, 512), rate=st.floats(0, 1), length=st.integers(1, 8192))
def test_the_best_k_is_never_below_the_target_alone(rows, rate, length):
    found = ceiling(SAME, rows, acceptance_rate=rate, mean_length=length)
    assert found.tokens_per_second >= found.target_only


def test_replicas_on_different_gpus_each_count_as_their_own():
    fast, slow = parse_gpus("H100,L4")
    asked = replace(request(TARGET, gpus={"cuda:0": fast, "cuda:1": slow, "cuda:2": fast}), speculation=fixed(0))
    one, other, third = (replica(TARGET, f"cuda:{index}") for index in range(3))
    alone = [predict(asked, each, 8).tokens_per_second for each in (one, other, third)]
    together = predict_all(asked, [one, other, third], 8)
    assert together.tokens_per_second == pytest.approx(sum(alone)) == together.target_only == together.one_group
