"""What spec.engine.name means, and the reason that is given."""

import pytest

from specbatch import stored_weights
from specbatch.errors import ModelError
from specbatch.plan.engine_choice import INSTALL, choose_engine
from specbatch.plan.shapes.read_shape import read_shape, shape_from_config
from tests.api.specs import job

NUMBERS = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 99}
DENSE, OTHER = read_shape("Qwen/Qwen3-8B"), shape_from_config({"model_type": "phi", **NUMBERS}, "org/phi")


def chosen(spec, *, target=DENSE, installed=None, cannot=None):
    return choose_engine(job(spec).spec, {"target": target}, installed, cannot)


@pytest.mark.parametrize(
    ("spec", "target", "installed", "name", "said"),
    [
        ("{}", DENSE, "1.2", "native", "the target has its fast path"),
        ("{}", OTHER, "1.2", "vllm", "no fast path for the target (phi), and vLLM is installed"),
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
    hybrid = shape_from_config({"model_type": "hybrid", **NUMBERS, **HYBRIDS[words]}, "org/hybrid")
    assert chosen("{}", target=hybrid, installed="1.2").name == "vllm"
    said = str(chosen("{}", target=hybrid))
    assert f"cannot run the target, which has {words} in place of attention" in said
    assert INSTALL in said
    with pytest.raises(ModelError, match=f"cannot run the target, which has {words}") as error:
        chosen("engine: {name: native}", target=hybrid)
    assert "vllm" in error.value.remedy


def test_layers_that_are_all_attention_are_no_hybrids():
    assert DENSE.foreign == OTHER.foreign == ""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gpt_oss", "attention sinks"),
        ("bloom", "alibi"),
        ("mamba", "Mamba in place of attention in every layer"),
        ("rwkv", "a recurrent state"),
        ("falcon", "attention that does not go through"),
    ],
)
def test_what_a_model_type_alone_tells_is_refused_from_config_json(kind, words):
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 64}
    target = shape_from_config({"model_type": kind, **NUMBERS, **(experts if kind == "gpt_oss" else {})}, "org/model")
    assert words in target.foreign
    assert chosen("{}", target=target, installed="1.2").name == "vllm"
    assert words in chosen("{}", target=target).cannot
    with pytest.raises(ModelError, match=f"which has {words}"):
        chosen("engine: {name: native}", target=target)


def test_a_run_that_another_engine_or_the_native_one_can_do_is_not_said_to_be_refused():
    assert chosen("{}").cannot == chosen("{}", target=OTHER).cannot == ""
    assert chosen("{}", installed="1.2", cannot="Mamba in layer 0").cannot == ""


def test_what_keeps_rows_from_vllm_is_the_reason_where_it_is_installed():
    refused = chosen("placement: {gpus: 2, microBatches: 2}", installed="1.2", cannot="Mamba in layer 0")
    assert "spec.placement.microBatches is not vLLM's" in refused.cannot
    assert "not installed" not in refused.cannot


GEMV = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}


@pytest.fixture
def gemv():
    return shape_from_config(
        {"model_type": "llama", **NUMBERS, "intermediate_size": 128, "quantization_config": GEMV}, "org/awq"
    )


def test_weights_that_nothing_here_reads_are_refused_by_what_of_their_form_is_not_read(gemv, monkeypatch):
    monkeypatch.setitem(stored_weights._PACKAGES, "awq", ("no-such-package",))
    choice = chosen("{}", target=gemv)
    assert "packed for the kernel gemv" in choice.cannot
    assert "pip install no-such-package" in choice.otherwise
    assert chosen("{}", target=gemv, installed="1.2").name == "vllm"
    with pytest.raises(ModelError, match="packed for the kernel gemv") as error:
        chosen("engine: {name: native}", target=gemv)
    assert "pip install no-such-package" in error.value.remedy


def test_weights_that_transformers_packages_read_are_not_refused(gemv, monkeypatch):
    monkeypatch.setitem(stored_weights._PACKAGES, "awq", ("numpy",))
    assert chosen("{}", target=gemv).cannot == ""
    assert chosen("engine: {name: native}", target=gemv).name == "native"


@pytest.mark.parametrize("method", ["modelopt", "nvfp4"])
def test_weights_of_a_method_that_nothing_here_reads_are_refused_and_are_vllms(method):
    config = {"model_type": "llama", **NUMBERS, "intermediate_size": 128}
    target = shape_from_config(config | {"quantization_config": {"quant_method": method}}, "org/q")
    choice = chosen("{}", target=target)
    assert f"which has weights quantised by {method} that transformers does not read" in choice.cannot
    assert choice.otherwise == "use the unquantised model"
    assert chosen("{}", target=target, installed="1.2").name == "vllm"
