"""What spec.engine.name means, and the reason that is given."""

import pytest

from specbatch.errors import ModelError
from specbatch.plan.engine_choice import INSTALL, choose_engine
from specbatch.plan.shapes.read_shape import read_shape, shape_from_config
from tests.api.specs import job

DENSE, OTHER = read_shape("Qwen/Qwen3-8B"), read_shape("openai/gpt-oss-20b")


def chosen(spec, *, target=DENSE, installed=None, cannot=None):
    return choose_engine(job(spec).spec, {"target": target}, installed, cannot)


@pytest.mark.parametrize(
    ("spec", "target", "installed", "name", "said"),
    [
        ("{}", DENSE, "1.2", "native", "the target has its fast path"),
        ("{}", OTHER, "1.2", "vllm", "no fast path for the target (gpt_oss), and vLLM is installed"),
        ("{}", OTHER, None, "native", INSTALL),
        ("placement: {gpus: 0}", OTHER, "1.2", "native", "it runs on a CPU"),
        ("engine: {name: native}", OTHER, "1.2", "native", "spec.engine.name says so"),
        ("engine: {name: vllm}", DENSE, "1.2", "vllm", "spec.engine.name says so"),
        ("engine: {name: vllm}", DENSE, None, "vllm", INSTALL),
        ("target: {model: a/b, adapter: c}", DENSE, "1.2", "vllm", "target.adapter needs it"),
        ("placement: {gpus: 2, microBatches: 2}", OTHER, "1.2", "native", "spec.placement.microBatches is not vLLM's"),
    ],
)
def test_the_engine_follows_from_spec_shapes_and_what_is_installed(spec, target, installed, name, said):
    choice = chosen(spec, target=target, installed=installed)
    assert choice.name == name
    assert said in str(choice)


def test_a_target_that_the_native_engine_cannot_run_at_all_is_vllms_on_a_cpu_too():
    choice = chosen("placement: {gpus: 0}", installed="1.2", cannot="Mamba in layer 0")
    assert (choice.identity, choice.remedy) == ("vllm 1.2", "")
    assert "which has Mamba in layer 0" in choice.reason


def test_the_native_engines_identity_is_its_name_alone_so_that_older_results_are_continued():
    assert chosen("{}").identity == "native"


HYBRIDS = {
    "linear attention": {"layer_types": ["linear_attention", "full_attention"]},
    "Mamba": {"hybrid_override_pattern": "M-M*", "mamba_num_heads": 8},
    "convolutions": {"conv_L_cache": 3},
}


@pytest.mark.parametrize("words", HYBRIDS)
def test_hybrids_with_recurrent_state_are_vllms_and_refused_where_the_spec_says_native(words):
    numbers = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 99}
    hybrid = shape_from_config({"model_type": "hybrid", **numbers, **HYBRIDS[words]}, "org/hybrid")
    assert chosen("{}", target=hybrid, installed="1.2").name == "vllm"
    said = str(chosen("{}", target=hybrid))
    assert f"cannot run the target, which has {words} in place of attention" in said
    assert INSTALL in said
    with pytest.raises(ModelError, match=f"cannot run the target, which has {words}") as error:
        chosen("engine: {name: native}", target=hybrid)
    assert "vllm" in error.value.remedy


def test_layers_that_are_all_attention_are_no_hybrids():
    assert DENSE.foreign == OTHER.foreign == ""
