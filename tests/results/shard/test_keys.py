import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.results.shard.keys import IndexSet, KeySet


@pytest.mark.slow
@given(st.lists(st.binary(min_size=16, max_size=16)), st.lists(st.binary(min_size=16, max_size=16)))
def test_a_key_set_holds_what_was_added_and_nothing_else(added, others):
    keys = KeySet()
    for key in added:
        keys.add(key)
        keys.add(key)
    assert all(key in keys for key in added)
    stand_ins = {bytes(16): bytes(15) + b"\1"}  # all zeros is taken for one
    known = {stand_ins.get(key, key) for key in added}
    assert len(keys) == len(known)
    assert set(keys) == known
    assert all((key in keys) == (stand_ins.get(key, key) in known) for key in others)


def test_a_key_set_grows():
    rng = random.Random(1)
    added = [rng.randbytes(16) for _ in range(5000)]
    # Equal low halves all want the same slot.
    added += [rng.randbytes(8) + b"sameslot" for _ in range(200)]
    keys = KeySet()
    for key in added:
        keys.add(key)
    assert len(keys) == 5200
    assert all(key in keys for key in added)
    assert not any(rng.randbytes(16) in keys for _ in range(1000))


@given(st.lists(st.integers(0, 2**40) | st.integers(0, 20_000)), st.lists(st.integers(0, 20_000)))
def test_an_index_set_holds_what_was_added_and_nothing_else(added, others):
    indices = IndexSet()
    for index in added:
        indices.add(index)
    assert all(index in indices for index in added)
    assert all((index in indices) == (index in set(added)) for index in others)
