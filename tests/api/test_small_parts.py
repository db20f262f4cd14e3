from __future__ import annotations

from decimal import Decimal

import pytest

from specbatch import api
from specbatch.api.hints.nearest import nearest
from specbatch.api.paths import parse_path, path_text
from specbatch.api.quantity import quantity_value
from specbatch.api.words import value_in_words


def test_public_names_are_those_that_are_promised():
    assert sorted(api.__all__) == [
        "API_VERSION", "BatchingSpec", "DatasetSpec", "DecodingSpec", "DrafterSpec", "EngineSpec", "JobSpec", "KIND",
        "Metadata", "PlacementSpec", "RatioSpec", "ResultsSpec", "Spec", "SpecBatchJob", "TargetSpec", "VolumesSpec", "load_spec",
        "parse_spec",
    ]  # fmt: skip
    assert all(hasattr(api, name) for name in api.__all__)


@pytest.mark.parametrize(
    ("written", "known", "meant"),
    [
        ("max_new_tokens", ["maxNewTokens", "maxLength"], "maxNewTokens"),
        ("MAXLENGTH", ["maxNewTokens", "maxLength"], "maxLength"),
        ("seperate", ["same", "separate"], "separate"),
        ("zebra", ["same", "separate"], None),
        ("", ["same"], None),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case_and_dashes(written, known, meant):
    assert nearest(written, known) == meant


@pytest.mark.parametrize(
    ("quantity", "value"),
    [("500m", "0.5"), ("16Gi", 2**34), ("1.5G", 1_500_000_000), ("1e3", 1000), ("1E", 10**18), (".5", "0.5"), ("7", 7)],
)
def test_quantities_have_the_value_that_kubernetes_gives_them(quantity, value):
    assert quantity_value(quantity) == Decimal(value)


@pytest.mark.parametrize("text", ["", "Gi", "1GB", "-1", "1 Gi", "1.2.3"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="not a quantity"):
        quantity_value(text)


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "decoding", "stop", 0),
        ("metadata", "labels", "example.com/team"),
        ("a", "b-c", "d_e"),
        ("a", "b c", 3, "x"),
    ],
)
def test_paths_are_written_and_read_back(path):
    assert parse_path(path_text(path)) == path


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        ({}, "a mapping"),
        ([], "an empty list"),
        ([1], "a list of 1 item"),
        (False, "false"),
        ("a\x1b", '"a\\u001b"'),
        (10**70, "a number of more than 60 digits"),
    ],
)
def test_values_are_shown_short_and_printable(value, words):
    assert value_in_words(value) == words


def test_a_long_text_is_cut():
    assert value_in_words("x" * 100).endswith("... (100 characters)")
