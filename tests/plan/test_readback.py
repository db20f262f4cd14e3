from specbatch.plan.readback import compare_with_actual
from tests.plan.builders import plan_of

SPLIT = plan_of("2xH100", drafter=None, env={"TARGET_GPU": "cuda:0,cuda:1"}).replicas[0].target


def loaded(placement):
    return {f"{name}.weight": device for name, device in placement.device_map.items()}


def test_a_placement_as_planned_has_no_differences():
    assert compare_with_actual(SPLIT, loaded(SPLIT)) == []


def test_a_tied_head_and_a_rotary_embedding_may_be_missing():
    actual = {
        name: device for name, device in loaded(SPLIT).items() if not name.startswith(("lm_head", "model.rotary"))
    }
    assert compare_with_actual(SPLIT, actual) == []


def test_a_layer_elsewhere_is_named_with_both_devices():
    actual = loaded(SPLIT) | {"model.layers.35.weight": "cuda:0"}
    assert compare_with_actual(SPLIT, actual) == ["model.layers.35.weight is on cuda:0, planned for cuda:1"]


def test_layer_1_is_not_taken_for_layer_10():
    actual = loaded(SPLIT) | {"model.layers.1.weight": "cuda:1"}
    assert compare_with_actual(SPLIT, actual) == ["model.layers.1.weight is on cuda:1, planned for cuda:0"]


def test_what_the_plan_does_not_name_and_what_was_not_loaded_are_differences():
    actual = {name: device for name, device in loaded(SPLIT).items() if name != "model.norm.weight"}
    actual["score.weight"] = "cuda:0"
    assert compare_with_actual(SPLIT, actual) == [
        "score.weight is on cuda:0, the plan does not name it",
        "model.norm was planned for cuda:1, but nothing of it was loaded",
    ]


def test_a_map_of_the_whole_model_covers_everything():
    from dataclasses import replace

    whole = replace(SPLIT, device_map={"": "cpu"})
    assert compare_with_actual(whole, {"any.weight": "cpu"}) == []
    assert compare_with_actual(whole, {"any.weight": "cuda:0"}) == ["any.weight is on cuda:0, planned for cpu"]
