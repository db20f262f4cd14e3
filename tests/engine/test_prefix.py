"""Keys of prefixes tell apart what differs, and nothing else."""

import pytest

from specbatch.engine.prefix import prefix_keys

ROW = list(range(100, 140))


@pytest.mark.parametrize(("tokens", "keys"), [(0, 0), (1, 0), (8, 0), (9, 0), (10, 1), (17, 1), (18, 2), (40, 4)])
def test_whole_stretches_have_keys_as_far_as_the_last_two_tokens(tokens, keys):
    assert len(prefix_keys(ROW[:tokens], 8)) == keys


def test_a_key_stands_for_all_tokens_before_its_end():
    keys = prefix_keys(ROW, 8)
    assert prefix_keys([*ROW[:20], 0, *ROW[21:]], 8)[:2] == keys[:2]
    assert not {*prefix_keys([*ROW[:20], 0, *ROW[21:]], 8)[2:]} & {*keys}
    assert not {*prefix_keys([0, *ROW[1:]], 8)} & {*keys}  # the same tokens after another first one
    assert not {*prefix_keys(ROW[8:], 8)} & {*keys}  # at other positions


def test_with_a_lookahead_the_token_behind_the_end_counts():
    changed = [*ROW[:16], 0, *ROW[17:]]
    assert prefix_keys(changed, 8)[:2] == prefix_keys(ROW, 8)[:2]
    assert prefix_keys(changed, 8, lookahead=1)[:2] == [
        prefix_keys(ROW, 8, lookahead=1)[0],
        *prefix_keys(changed, 8, lookahead=1)[1:2],
    ]
    assert prefix_keys(changed, 8, lookahead=1)[1] != prefix_keys(ROW, 8, lookahead=1)[1]
    assert len(prefix_keys(ROW[:10], 8, lookahead=1)) == 1


def test_any_sequence_of_numbers_of_64_bits_has_keys():
    assert prefix_keys(tuple(ROW), 8) == prefix_keys(ROW, 8)
    assert prefix_keys([2**40 + token for token in ROW], 8) != prefix_keys(ROW, 8)
