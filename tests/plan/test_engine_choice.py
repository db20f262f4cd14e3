"""What spec.engine.name means, and the reason that is given."""

import pytest

from specbatch.plan.engine_choice import INSTALL, choose_engine
from specbatch.plan.shapes.read_shape import read_shape
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
