"""What is asked for in vain is a warning, or refused before anything is loaded."""

from types import SimpleNamespace

import pytest
import torch

from specbatch.errors import SpecError
from specbatch.runner.models.effects import check_fp8_kv, without_effect
from tests.api.specs import job

GENERAL = SimpleNamespace(
    runner=None, drafter=None, target=SimpleNamespace(model=SimpleNamespace(dtype=torch.bfloat16))
)


@pytest.mark.parametrize(
    ("groups", "devices", "said"),
    [
        (2, ("cuda:0",), "2 asks for groups"),
        (2, ("cuda:0", "cuda:1"), "the general engine runs"),
        (1, ("cuda:0",), None),
        ("auto", ("cuda:0",), None),
    ],
)
def test_groups_that_would_gain_nothing_are_a_warning(groups, devices, said):
    spec = job(f"{{placement: {{gpus: 2, microBatches: {groups}}}}}").spec
    found = list(without_effect(spec, SimpleNamespace(devices=devices), GENERAL))
    assert found == [] if said is None else said in found[0]


def test_the_general_engine_says_that_fp8_kv_saves_no_memory():
    spec = job("{target: {model: a/b, kvDtype: fp8}, drafter: {model: c/d, kvDtype: fp8}}").spec
    (warning,) = without_effect(spec, SimpleNamespace(devices=("cuda:0",)), GENERAL)
    assert "spec.target.kvDtype and spec.drafter.kvDtype" in warning
    assert "keeps them in bfloat16" in warning


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (9, 0)])
def test_a_gpu_without_fp8_is_refused_by_name_for_kv_in_fp8(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "the GPU")
    asking = job("{target: {model: a/b, kvDtype: fp8}, drafter: {model: c/d}}").spec
    check_fp8_kv(job("{target: {model: a/b}, drafter: {model: c/d}}").spec, ["cuda:0"])
    check_fp8_kv(asking, ["cpu"])
    if capability >= (8, 9):
        check_fp8_kv(asking, ["cuda:0"])
        return
    with pytest.raises(
        SpecError, match=rf"spec.target.kvDtype.*cuda:0 \(the GPU\) has {capability[0]}.{capability[1]}"
    ):
        check_fp8_kv(asking, ["cpu", "cuda:0"])
