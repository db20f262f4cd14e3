"""Groups of rows that are asked for where nothing could be at work at once."""

from types import SimpleNamespace

import pytest

from specbatch.runner.models.load import _idle_groups


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
    spec = SimpleNamespace(placement=SimpleNamespace(micro_batches=groups))
    found = _idle_groups(spec, SimpleNamespace(devices=devices), SimpleNamespace(runner=None))
    assert found is None if said is None else said in found
