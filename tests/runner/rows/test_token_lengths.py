"""The bound by which a text is too long before it is tokenised: never above the tokens it really has."""

from __future__ import annotations

import random
import unicodedata

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from specbatch.runner.rows.token_lengths import TokenLengths, token_lengths
from tests.runner.tiny import byte_level_tokenizer, sentencepiece_like_tokenizer

_PIECES = ["hello", " ", "   ", "\n\t", "the quick", "😀", "é", "e\u0301", "\u03b1\u0313\u0300\u0345", "한", "\u1112\u1161\u11ab", "<|im_end|>", "x" * 40, "\u3000", "\u2003", "\0", "END"]  # fmt: skip


def texts():
    chosen = random.Random(5)
    yield from (
        "a",
        " " * 500,
        "hello" * 100,
        "\u03b1\u0313\u0300\u0345" * 100,
        "\u1112\u1161\u11ab" * 100,
        "<|im_end|>" + " " * 300,
    )
    for _ in range(100):
        yield "".join(chosen.choices(_PIECES, k=chosen.randint(1, 60)))


def byte_level(**changes):
    tokenizer = byte_level_tokenizer()
    for name, part in changes.items():
        setattr(tokenizer.backend_tokenizer, name, part)
    return tokenizer


def with_greedy_special_token():
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([AddedToken("<|end|>", lstrip=True, rstrip=True), AddedToken("hello", rstrip=True)])
    return tokenizer


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
BOUNDED = {
    "byte level": (byte_level, True),
    "byte fallback": (sentencepiece_like_tokenizer, True),
    "NFC": (lambda: byte_level(normalizer=normalizers.NFC()), True),
    "NFKC": (lambda: byte_level(normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])), True),
    "strip": (lambda: byte_level(normalizer=normalizers.Strip()), False),
    "words": (lambda: byte_level(pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), BYTES])), False),
    "special tokens that take white space": (with_greedy_special_token, False),
    "split": (lambda: byte_level(pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\s+"), "isolated"), BYTES])), True),
    "replace": (lambda: byte_level(normalizer=normalizers.Replace(" ", "▁")), True),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOUNDED)
def test_no_text_has_fewer_tokens_than_the_bound(kind):
    make, spaces = BOUNDED[kind]
    tokenizer = make()
    lengths = token_lengths(tokenizer)
    assert lengths is not None
    assert lengths.spaces is spaces
    for text in texts():
        assert lengths.least_tokens(text) <= len(tokenizer(text, add_special_tokens=False)["input_ids"]), repr(text)
    assert lengths.least_tokens("q9" * 10_000) > 1000


UNBOUNDED = {
    "no byte alphabet": lambda: Tokenizer(models.BPE({"a": 0, "<unk>": 1}, [], unk_token="<unk>", fuse_unk=True)),
    "one unknown token a word": lambda: Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")),
    "accents left out": lambda: byte_level(normalizer=normalizers.StripAccents()),
    "a pattern left out": lambda: byte_level(normalizer=normalizers.Replace(Regex("x+"), "")),
    "a text left out": lambda: byte_level(normalizer=normalizers.Replace("xx", "")),
    "a split left out": lambda: byte_level(pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Split("x", "removed"), BYTES])),
    "no tokenizers backend": object,
}  # fmt: skip


@pytest.mark.parametrize("kind", UNBOUNDED)
def test_a_tokenizer_that_loses_characters_has_no_bound(kind):
    made = UNBOUNDED[kind]()
    if isinstance(made, Tokenizer):
        made = type("Fast", (), {"backend_tokenizer": made})()
    assert token_lengths(made) is None


def test_white_space_counts_only_where_it_is_not_lost():
    assert TokenLengths(4).least_tokens("ab \u2003c") == 2
    assert TokenLengths(1, spaces=False).least_tokens("ab \u2003\n c") == 3
    assert TokenLengths(1, composed="NFC").least_tokens(unicodedata.normalize("NFD", "é")) == 1
