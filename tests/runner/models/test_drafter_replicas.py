"""Several drafters of a plan: all are loaded and read back, and it is told where nothing would use them."""

from types import SimpleNamespace

import pytest

from specbatch.embedded import path as embedded
from specbatch.engine.loading.load import load_causal_lm
from specbatch.plan.device_map import place_model
from specbatch.plan.types import ReplicaPlan
from specbatch.runner.models.effects import without_effect
from specbatch.runner.models.load import _load_drafter, find_pair, placements_of, read_shapes
from tests.api.specs import job

SPEC = job("{target: {model: embedded:target}, drafter: {model: embedded:drafter}}").spec


@pytest.mark.slow
def test_every_drafter_of_the_plan_is_loaded_and_read_back():
    pair = find_pair(SPEC, {}, lambda _: None)
    shapes = [place_model(shape, ["cpu"]) for shape in read_shapes(SPEC, pair) if shape is not None]
    target = load_causal_lm(str(embedded("target")), device_map={"": "cpu"}, dtype="float32")
    replica = ReplicaPlan(shapes[0], shapes[1], (shapes[1],))
    drafter = _load_drafter(SPEC, pair, replica, target)
    assert len(drafter.models) == 2
    assert drafter.models[0].model is not drafter.models[1].model
    engine = SimpleNamespace(target=target, drafter=drafter, runner=SimpleNamespace(drafters=1))
    assert list(placements_of([engine])) == ["target", "drafter", "drafter 2"]
    assert list(placements_of([engine, engine]))[-2:] == ["drafter[1]", "drafter 2[1]"]
    assert "2 drafters are loaded and 1 will draft, since the general engine runs" in "".join(
        without_effect(SPEC, replica, engine)
    )
    engine.runner.drafters = 2
    assert list(without_effect(SPEC, replica, engine)) == []
