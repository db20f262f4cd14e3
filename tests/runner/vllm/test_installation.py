"""vLLM that is not all there."""

import sys

import pytest

from specbatch.errors import ModelError
from specbatch.runner.vllm.installation import load_vllm


def test_a_missing_part_of_vllm_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "specbatch.runner.vllm.load", raising=False)
    monkeypatch.setitem(sys.modules, "vllm", None)  # an import of it fails
    with pytest.raises(ModelError, match=r"a part of vLLM .* is not installed: .*vllm") as caught:
        load_vllm(None, print, scoring=False)
    assert "specbatch[vllm]" in caught.value.remedy
