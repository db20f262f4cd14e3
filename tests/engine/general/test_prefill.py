import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.engine.general.prefill import group_by_length
from specbatch.engine.request import Request
from tests.engine import tiny

LENGTHS = st.dictionaries(st.integers(0, 500), st.integers(1, 400), max_size=60)


@pytest.mark.slow
@given(LENGTHS, st.integers(1, 2000))
def test_every_slot_is_in_one_group(lengths, budget):
    slots = [slot for group in group_by_length(lengths, budget) for slot in group]
    assert sorted(slots) == sorted(lengths)


@given(LENGTHS, st.integers(1, 2000))
def test_padding_stays_below_an_eighth_and_forwards_below_the_budget(lengths, budget):
    for group in group_by_length(lengths, budget):
        longest = max(lengths[slot] for slot in group)
        assert all(longest - lengths[slot] <= max(16, longest // 8) for slot in group)
        assert len(group) == 1 or longest * len(group) <= budget


@pytest.mark.slow
def test_prompts_of_every_length_around_the_chunk_give_the_same_tokens(pair):
    prompt = pair.prompts[max(range(len(pair.prompts)), key=lambda i: len(pair.prompts[i]))]
    rows = [Request(str(n), prompt[:n], 6) for n in range(1, len(prompt))]
    one, _ = tiny.decode(pair.target, pair.twin, rows, num_speculative_tokens=2, prefill_chunk=512, max_sequences=1)
    for chunk in (7, 16):
        out, engine = tiny.decode(
            pair.target, pair.twin, rows, num_speculative_tokens=2, prefill_chunk=chunk, max_sequences=9
        )
        assert {i: c.token_ids for i, c in out.items()} == {i: c.token_ids for i, c in one.items()}
        assert engine.stats.acceptance_rate == 1.0
        assert engine.stats.prompt_tokens == sum(range(1, len(prompt)))
