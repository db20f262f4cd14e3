"""Keys and values in FP8 as the plan has them: about half the bytes a token, where the pair has pages."""

from dataclasses import replace

import pytest

from specbatch.plan.gpus import parse_gpus
from specbatch.plan.planner import make_plan
from tests.plan.builders import job, plan_of, shape

KV = "target.kvDtype=fp8"
TARGET = shape("qwen3-8b")


def facts(plan, role="target"):
    return plan.models[role]["kv_bytes_per_token"]


@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3-0.6b", "llama-3.2-1b"])
def test_a_token_takes_a_byte_for_each_number_and_two_for_each_heads_keys_and_values(name):
    plain = shape(name)
    heads = 2 * plain.num_kv_heads * plain.num_layers
    assert replace(plain, fp8_kv=True).kv_bytes_per_token == heads * (plain.head_dim + 2)


def test_each_model_has_its_own_and_the_plan_says_so():
    plain, both = plan_of("1xH100"), plan_of("1xH100", KV, "drafter.kvDtype=fp8")
    for role in ("target", "drafter"):
        assert facts(both, role) < 0.52 * facts(plain, role)
        assert any(
            f"in FP8, {facts(both, role):,} bytes a token in place of {facts(plain, role):,}" in note
            for note in both.notes
        )
    assert facts(plan_of("1xH100", KV), "drafter") == facts(plain, "drafter")


def test_more_rows_fit_and_reading_them_takes_less():
    sizes = "batching.maxLength=32768", "batching.maxSequences=auto"
    plain, fp8 = (plan_of("1xH100", *sizes, *more, drafter=None) for more in ((), (KV,)))
    assert fp8.max_sequences > 1.8 * plain.max_sequences
    same = [plan_of("1xH100", "batching.maxSequences=32", *more, drafter=None) for more in ((), (KV,))]
    assert same[1].ceiling.target_only > same[0].ceiling.target_only
    assert same[1].replicas[0].target.kv_bytes < 0.52 * same[0].replicas[0].target.kv_bytes


def test_where_nothing_is_saved_the_plan_counts_on_nothing():
    cpu = make_plan(job(0, KV, drafter=None), TARGET, None, ())
    assert facts(cpu) == TARGET.kv_bytes_per_token
    slow = replace(TARGET, architecture="gpt_neox")
    assert facts(make_plan(job(1, KV, drafter=None), slow, None, parse_gpus("1xH100"))) == TARGET.kv_bytes_per_token
    by_vllm = job(1, KV, "engine.name=vllm", drafter=None)
    assert facts(make_plan(by_vllm, slow, None, parse_gpus("1xH100"))) < TARGET.kv_bytes_per_token
