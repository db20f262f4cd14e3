"""The printed plans in docs/GPU_DEPLOYMENT.md and its Chinese twin are what the command prints."""

import re

import pytest

from tools.deployment import DOCUMENTS, ROOT, filled


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_printed_plan_is_what_the_command_prints_now(document):
    assert filled(document) == (ROOT / document).read_text(encoding="utf-8"), "stale: run make generate"


def test_both_languages_show_the_same_plans_in_the_same_order():
    english, chinese = (
        re.findall(r"```console\n.*?```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
        for document in DOCUMENTS
    )
    assert english == chinese
    assert len(english) == 7
