import pytest

from specbatch.engine.loading.vocabulary import check_vocabularies
from specbatch.errors import VocabularyMismatchError

TARGET = {"a": 0, "b": 1, "c": 2}


def test_equal_vocabularies_pass_in_any_order():
    check_vocabularies(TARGET, {"c": 2, "a": 0, "b": 1})


@pytest.mark.parametrize(
    ("drafter", "words"),
    [
        ({"a": 0, "b": 2, "c": 1}, "'b' is 1 in the target, 2 in the drafter"),
        ({"a": 0, "b": 1}, "'c' is 2 in the target, missing in the drafter"),
        ({"a": 0, "b": 1, "c": 2, "d": 3}, "'d' is only in the drafter"),
        ({}, "3 and 0 tokens"),
    ],
)
def test_a_mismatch_says_what_differs(drafter, words):
    with pytest.raises(VocabularyMismatchError) as caught:
        check_vocabularies(TARGET, drafter)
    assert words in str(caught.value)
    assert "ngram" in caught.value.remedy


def test_many_differences_are_counted_not_listed():
    with pytest.raises(VocabularyMismatchError, match="and 97 more"):
        check_vocabularies({str(i): i for i in range(100)}, {str(i): i + 1 for i in range(100)})
