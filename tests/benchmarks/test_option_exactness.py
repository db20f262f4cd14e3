"""Schemas on the embedded pair: texts are valid and the masked target's own, as the benchmark shows of all schemas and many rows."""

import pytest

pytest.importorskip("llguidance", reason="the extra grammar")

from benchmarks import option_exactness
from benchmarks.inputs.schemas import SCHEMAS


@pytest.mark.slow
def test_texts_are_what_their_schemas_say_and_the_masked_targets_own(monkeypatch, capsys):
    """Of unicode, alternatives, references, and characters that JSON escapes."""
    monkeypatch.setattr(option_exactness, "SCHEMAS", [SCHEMAS[number] for number in (2, 11, 12, 18)])
    assert option_exactness.schemas(4, [("graphs", 3, "rejection")]) == 0
    assert "4 rows, 4 valid, 4 as the target alone" in capsys.readouterr().out
