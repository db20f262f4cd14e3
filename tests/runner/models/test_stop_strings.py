import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from specbatch.runner.models.stop_strings import StopStrings, final_text
from specbatch.runner.models.tokenizer import Detokenizer
from tests.runner.tiny import byte_level_tokenizer, sentencepiece_like_tokenizer

BYTE_LEVEL = Detokenizer(byte_level_tokenizer())
BYTE_FALLBACK = Detokenizer(sentencepiece_like_tokenizer())
TOKENIZERS = {"byte_level": BYTE_LEVEL, "byte_fallback": BYTE_FALLBACK}


def tokens_of(detokenizer, text):
    return list(detokenizer._tokenizer(text, add_special_tokens=False)["input_ids"])


def brute_force(detokenizer, stops, tokens):
    """The rule as it is said: decode the whole row after every token."""
    for kept in range(1, len(tokens) + 1):
        text = detokenizer(tokens[:kept])
        if any(stop in text for stop in stops):
            return kept
    return None


def fed(check, tokens, sizes):
    """Feeds the tokens in groups; how many the row keeps in all."""
    at = turn = 0
    while at < len(tokens):
        group = tokens[at : at + sizes[turn % len(sizes)]]
        kept = check(group)
        if kept is not None:
            return at + kept
        at += len(group)
        turn += 1
    return None


@pytest.mark.parametrize("text", ["so STOP now", "停止在这里。", "a😀b😃", "naïve café"])
def test_stop_string_across_tokens_and_inside_characters(text):
    tokens = tokens_of(BYTE_LEVEL, text)
    for length in (1, 2, 3):
        for start in range(len(text) - length + 1):
            stop = text[start : start + length]
            assert fed(StopStrings(BYTE_LEVEL, [stop]), tokens, [1]) == brute_force(BYTE_LEVEL, [stop], tokens)


ANY_TOKENS = st.sampled_from(sorted(TOKENIZERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(st.integers(0, len(TOKENIZERS[name]._vocab) - 1), max_size=40))
)


@pytest.mark.slow
@settings(max_examples=400)
@given(
    case=ANY_TOKENS,
    stops=st.lists(st.text("aEND你好😀 o.\n", min_size=1, max_size=3), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_any_tokens_in_any_groups_stop_where_decoding_every_prefix_says(case, stops, sizes):
    name, tokens = case
    detokenizer = TOKENIZERS[name]
    assert fed(StopStrings(detokenizer, stops), tokens, sizes) == brute_force(detokenizer, stops, tokens)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    text=st.text("aENDSTOP你好世界😀 .\né", min_size=1, max_size=30),
    cut=st.tuples(st.integers(0, 29), st.integers(1, 4)),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    noise=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 300)), max_size=3),
)
def test_stops_taken_from_the_text_are_found_at_the_same_token(text, cut, sizes, noise):
    tokens = tokens_of(BYTE_LEVEL, text)
    for at, token_id in noise:  # stray bytes and special tokens in between
        tokens.insert(at % (len(tokens) + 1), token_id)
    whole = BYTE_LEVEL(tokens)
    stop = whole[cut[0] % max(1, len(whole)) :][: cut[1]]
    if not stop or "�" in stop:
        return
    assert fed(StopStrings(BYTE_LEVEL, [stop]), tokens, sizes) == brute_force(BYTE_LEVEL, [stop], tokens)


def test_special_token_as_a_stop_string_stops_at_its_token():
    end = BYTE_LEVEL._vocab["<|im_end|>"]
    tokens = [*tokens_of(BYTE_LEVEL, "hello"), end, *tokens_of(BYTE_LEVEL, "more")]
    kept = fed(StopStrings(BYTE_LEVEL, ["<|im_end|>"]), tokens, [3])
    assert tokens[kept - 1] == end
    assert final_text(BYTE_LEVEL, tokens[:kept], ["<|im_end|>"]) == "hello"
    assert fed(StopStrings(BYTE_LEVEL, ["zzz"]), tokens, [3]) is None


def test_final_text_ends_before_the_first_stop_string():
    tokens = tokens_of(BYTE_LEVEL, "one END two STOP")
    assert final_text(BYTE_LEVEL, tokens, ["STOP", "END"]) == "one "
    assert final_text(BYTE_LEVEL, tokens, ["zzz"]) == "one END two STOP"
    assert final_text(BYTE_LEVEL, tokens, []) == "one END two STOP"


@pytest.mark.parametrize("kind", ["text", "stray bytes", "special"])
def test_cost_of_a_token_does_not_grow_with_the_row(kind):
    tokens = {
        "text": tokens_of(BYTE_LEVEL, "the quick brown fox 你好 "),
        "stray bytes": [tokens_of(BYTE_LEVEL, "你")[0]] * 9,
        "special": [BYTE_LEVEL._vocab["<|im_end|>"]] * 9,
    }[kind]
    check = StopStrings(BYTE_LEVEL, ["never there"])

    def seconds(count):
        start = time.perf_counter()
        for _ in range(count):
            check(tokens)
        return time.perf_counter() - start

    seconds(50)
    first = min(seconds(100) for _ in range(3))
    seconds(3000)
    assert min(seconds(100) for _ in range(3)) < 8 * first  # quadratic would be 60 times


def test_tokenizer_without_a_backend_decodes_by_its_own_method():
    class Slow:
        all_special_ids = (0,)

        def get_vocab(self):
            return {"<s>": 0, "a": 1}

        def decode(self, token_ids, **options):
            assert options == {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
            return "a" * len([one for one in token_ids if one])

    detokenizer = Detokenizer(Slow())
    assert detokenizer([0, 1, 1]) == "aa"
    assert StopStrings(detokenizer, ["aaa"])([1, 1, 1, 1]) == 3


def byte_tokens(data):
    """One token a byte, of the byte-level tokenizer."""
    by_byte = {}
    for letter in pre_tokenizers.ByteLevel.alphabet():
        text = BYTE_LEVEL._backend.decoder.decode([letter])
        if text != "�":
            by_byte[text.encode()[0]] = letter
    # The bytes that are no character of their own: GPT-2's table gives 0x80 to 0xA0 the letters from U+0122 on, the rest their own.
    for byte in range(0x80, 0x100):
        by_byte.setdefault(
            byte, chr(0x122 + byte - 0x80) if byte <= 0xA0 else chr(0x143) if byte == 0xAD else chr(byte)
        )
    return [BYTE_LEVEL._vocab[by_byte[byte]] for byte in data]


@pytest.mark.parametrize("strays", range(6, 14))
@pytest.mark.parametrize("size", [1, 2, 3])
def test_character_after_a_long_run_of_stray_bytes_is_found(strays, size):
    tokens = byte_tokens(b"\x80" * strays + "你😀".encode())
    assert BYTE_LEVEL(tokens) == "�" * strays + "你😀"
    for stop in ("你", "😀", "你😀"):
        assert fed(StopStrings(BYTE_LEVEL, [stop]), tokens, [size]) == brute_force(BYTE_LEVEL, [stop], tokens)


def test_text_that_a_later_byte_spoils_has_stopped_the_row_before():
    tokens = [BYTE_FALLBACK._vocab[f"<0x{byte:02X}>"] for byte in "好".encode() + b"\xe5"]
    assert "好" not in BYTE_FALLBACK(tokens)
    assert StopStrings(BYTE_FALLBACK, ["好"])(tokens) == 3
