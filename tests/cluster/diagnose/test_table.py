"""The table of rules, and the tables of causes that the rules look up."""

import importlib
import inspect
import pkgutil
import re

import pytest

from specbatch.cluster.diagnose import rules
from specbatch.cluster.diagnose.finding import Cause
from specbatch.cluster.diagnose.table import OF_A_JOB, OF_A_MANIFEST, OF_A_POD

MODULES = [importlib.import_module(f"{rules.__name__}.{one.name}") for one in pkgutil.iter_modules(rules.__path__)]


def causes_of(module):
    """Every row of its tables."""
    for value in vars(module).values():
        rows = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
        yield from (row for row in rows if isinstance(row, Cause))


CAUSES = [(module.__name__.rpartition(".")[2], cause) for module in MODULES for cause in causes_of(module)]


def test_every_rule_stands_in_the_table():
    tables = {*OF_A_JOB, *OF_A_POD, *(rule for _, rule in OF_A_MANIFEST)}
    written = {
        function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_")
        and function.__module__ == module.__name__
        and inspect.signature(function).return_annotation == "Iterator[Finding]"
    }
    assert len(written) > 15
    assert written == tables


@pytest.mark.parametrize(("module", "cause"), CAUSES, ids=lambda value: getattr(value, "cause", value))
def test_a_cause_is_a_word_its_pattern_compiles_and_a_field_that_nobody_gives_is_empty(module, cause):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cause.cause)
    re.compile(cause.says)
    finding = cause.finding()
    assert "{" not in finding.sentence
    assert finding.sentence


def test_causes_are_many_and_known_once():
    assert len(CAUSES) > 90
    meanings = {}
    for _, cause in CAUSES:
        meanings.setdefault((cause.cause, cause.sentence), set()).add(cause.remedy)
    twice = {key: remedies for key, remedies in meanings.items() if len(remedies) > 1}
    assert {cause for cause, _ in twice} <= {
        "gpu-fault",
        "quota-exceeded",
        "results-not-written",
    }  # told apart by what is said
