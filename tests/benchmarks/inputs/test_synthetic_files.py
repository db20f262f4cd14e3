"""The pair's folders, read back as models of anyone's."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.inputs.synthetic import SHAPES, Order
from benchmarks.inputs.synthetic_files import write_pair


def test_folders_hold_models_that_go_on_as_designed_and_a_tokenizer_whose_tokens_they_have(tmp_path):
    target, drafter = write_pair(tmp_path, "tiny", "tiny", acceptance=0.75, dtype=torch.float32)
    order = Order(SHAPES["tiny"].vocab)
    for path, following in ((target, order.next), (drafter, order.agreeing(0.75))):
        model = AutoModelForCausalLM.from_pretrained(path)
        with torch.no_grad():
            assert model(torch.arange(512)[:, None]).logits[:, 0].argmax(-1).equal(following)
        assert model.generation_config.eos_token_id is None
    assert len(AutoTokenizer.from_pretrained(target)) <= SHAPES["tiny"].vocab
