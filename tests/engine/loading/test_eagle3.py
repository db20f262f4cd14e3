"""A head whose weights are not those of its config is refused by name."""

import pytest
import torch

from specbatch.engine.general.model import CausalLM
from specbatch.errors import ModelError
from tests.engine import heads, tiny


@pytest.fixture(scope="module")
def target():
    return CausalLM(tiny.qwen3(layers=7))


def without(key):
    return lambda tensors: tensors.pop(key)


def in_dtype(dtype):
    return lambda tensors: tensors.update({"fc.weight": tensors["fc.weight"].to(dtype)})


@pytest.mark.parametrize("config", [heads.safeailab(), heads.speculators()], ids=["SafeAILab", "speculators"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("norm.weight"), "1 tensors missing .norm.weight"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "no place for .extra"),
        (lambda tensors: tensors.update({"fc.weight": torch.zeros(32, 64)}), r"fc.weight is \[32, 64\]"),
        (lambda tensors: tensors["fc.weight"].fill_(torch.nan), "some numbers of fc.weight are not finite"),
        (without("d2t"), "d2t, which says what they are, is missing"),
        (lambda tensors: tensors.update(d2t=torch.tensor(3)), r"d2t is \[\], and the head drafts"),
        (in_dtype(torch.float8_e4m3fn), "fc.weight in float8_e4m3fn"),
        (in_dtype(torch.int32), "fc.weight in int32"),
        (without("lm_head.weight"), "missing .lm_head.weight"),
    ],
)
def test_damaged_weights_are_refused_by_name(config, damage, words, target, tmp_path):
    tensors = heads.weights(config)
    damage(tensors)
    with pytest.raises(ModelError, match=words):
        heads.load(heads.write(tmp_path, config, tensors), target)


def changed(key, index, value):
    return lambda tensors: tensors[key].__setitem__(index, value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (changed("d2t", -1, tiny.VOCAB), "d2t names token"),
        (changed("d2t", 0, -1), "d2t names token -1, and the target has 64"),
        (lambda tensors: tensors["d2t"].copy_(-torch.arange(len(tensors["d2t"]))), "token 0 more than once"),
        (changed("t2d", slice(None), False), "in one of them alone"),
        (lambda tensors: tensors.update(t2d=tensors["t2d"].logical_not()), "64 are in one of them alone, such as 0"),
    ],
)
def test_a_d2t_that_contradicts_t2d_or_the_vocabulary_is_refused_by_file_tensor_and_remedy(
    damage, words, target, tmp_path
):
    tensors = heads.weights(heads.safeailab())
    damage(tensors)
    with pytest.raises(ModelError, match=words) as refused:
        heads.load(heads.write(tmp_path, heads.safeailab(), tensors), target)
    assert refused.value.where == "head (model.safetensors)"
    assert "download the head again" in refused.value.remedy


def test_a_head_without_t2d_is_taken_by_its_d2t(target, tmp_path):
    tensors = heads.weights(heads.safeailab())
    del tensors["t2d"]
    heads.load(heads.write(tmp_path, heads.safeailab(), tensors), target)


def test_a_head_over_the_whole_vocabulary_is_taken_with_both_left_empty_by_training(target, tmp_path):
    config = heads.safeailab(draft_vocab_size=tiny.VOCAB)
    empty = {"d2t": torch.zeros(tiny.VOCAB, dtype=torch.long), "t2d": torch.zeros(tiny.VOCAB, dtype=torch.bool)}
    heads.load(heads.write(tmp_path, config, heads.weights(config) | empty), target)


def test_a_head_takes_the_dtype_of_its_target_unless_another_is_asked_for(target, tmp_path):
    config = heads.safeailab()
    folder = heads.write(
        tmp_path, config, {k: v.bfloat16() if v.is_floating_point() else v for k, v in heads.weights(config).items()}
    )
    assert heads.load(folder, target).head.dtype == torch.float32


def test_the_targets_head_stands_in_for_one_over_the_whole_vocabulary(target, tmp_path):
    config = heads.safeailab(draft_vocab_size=tiny.VOCAB)
    tensors = heads.weights(config)
    del tensors["lm_head.weight"]
    drafter = heads.load(heads.write(tmp_path, config, tensors), target)
    assert drafter.head.lm_head.weight.data_ptr() == target.model.lm_head.weight.data_ptr()


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "longrope"},
        {"rope_type": "longrope", "short_factor": "a", "long_factor": 2, "original_max_position_embeddings": 64},
        {"rope_type": "yarn", "factor": 2.0, "beta_fast": "x"},
    ],
)
def test_what_transformers_finds_wrong_with_a_heads_rotary_embedding_is_one_clear_error(rope, target, tmp_path):
    config = heads.safeailab(rope_scaling=rope)
    with pytest.raises(ModelError, match=r"config\.json") as refused:
        heads.load(heads.write(tmp_path, config, heads.weights(config)), target)
    assert (refused.value.where, bool(refused.value.remedy)) == ("head", True)
