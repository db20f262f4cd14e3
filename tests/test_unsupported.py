"""What config.json tells of models that the native engine refuses."""

import pytest
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from specbatch.engine.general.support import why_not
from specbatch.unsupported import unsupported

_NO_CONFIG = {"musicgen", "musicgen_melody"}  # that can be made without others
_VISION = {"got_ocr2"}  # whose text model is one that runs
_SPARSE = {"lfm2_moe"}  # whose config names no layers until it is told them


@pytest.mark.parametrize("kind", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - _NO_CONFIG - _VISION - _SPARSE))
def test_config_json_tells_what_transformers_class_tells(kind):
    config = CONFIG_MAPPING[kind]().get_text_config()
    found = why_not(config, MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[kind]])
    if not config.is_encoder_decoder:  # which plan refuses as none
        assert bool(unsupported(config.to_dict())) == bool(found)


@pytest.mark.parametrize("kind", ["jamba", "mamba", "falcon_mamba", "nemotron_h", "granitemoehybrid"])
def test_a_run_calls_mamba_by_its_name_as_plan_does(kind):
    config = CONFIG_MAPPING[kind]()
    assert why_not(config, None).startswith("Mamba in layer")
    assert unsupported(config.to_dict()).startswith("Mamba in place of attention")


@pytest.mark.parametrize("fields", [{"model_type": "llama"}, {"layer_types": ["full_attention", "sliding_attention"]}])
def test_plain_attention_is_not_refused(fields):
    assert unsupported(fields) == ""


def test_alibi_of_a_falcon_is_named():
    assert unsupported({"model_type": "falcon", "alibi": True}).startswith("alibi")
