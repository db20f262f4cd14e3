"""Synthetic pairs: what the target says is known, and how often the drafter agrees is designed."""

from dataclasses import replace

import pytest
import torch

from benchmarks.gpu_lines import k_shares
from benchmarks.inputs import synthetic
from benchmarks.inputs.synthetic import SHAPES, Order, build, even_split, set_head
from benchmarks.inputs.workloads import equal_lengths, mixed_lengths
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.describe.check import why_not
from specbatch.engine.request import Completion
from specbatch.engine.stats import EngineStats
from specbatch.plan.shapes.read_shape import shape_from_config

TINY = SHAPES["tiny"]
CPU = {"": torch.device("cpu")}


@pytest.fixture(scope="module")
def order():
    return Order(TINY.vocab)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_target_goes_on_as_expected_by_a_wide_margin(order, dtype):
    model = build(TINY, order.next, CPU, dtype, seed=0)
    rows = equal_lengths(TINY.vocab, 4, 8, 12, seed=0)
    out = model.generate(torch.tensor(rows.prompts), max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert out[:, 8:].tolist() == [order.expected(prompt, 12) for prompt in rows.prompts]
    with torch.no_grad():
        logits = model(torch.arange(TINY.vocab)[:, None]).logits[:, 0].float()
    best, second = logits.topk(2).values.unbind(-1)
    assert logits.argmax(-1).tolist() == order.next.tolist()
    assert (best - second).min() > 20  # of 80 on average; a tiny embedding is a noisy one
    assert best.mean() == pytest.approx(80, rel=0.05)


BUILDS = {
    "llama-8b",
    "mistral-7b",
    "phi-4",
    "olmo3-7b",
    "gemma3-12b",
    "glm4-9b",
    "qwen3-30b-a3b",
    "mixtral-8x7b",
    "tiny-moe",
}


@pytest.mark.parametrize("name", sorted(BUILDS))
def test_a_small_model_of_each_build_goes_on_as_expected(order, name):
    real = SHAPES[name]
    narrow = {key: 16 for key in real.settings if key == "moe_intermediate_size"}
    shape = replace(TINY, model_type=real.model_type, settings={**real.settings, **narrow})
    model = build(shape, order.next, CPU, torch.bfloat16, seed=0)
    assert why_not(CausalLM(model)) is None
    model.set_attn_implementation("sdpa")
    rows = equal_lengths(TINY.vocab, 4, 8, 12, seed=0)
    out = model.generate(torch.tensor(rows.prompts), max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert out[:, 8:].tolist() == [order.expected(prompt, 12) for prompt in rows.prompts]


def test_every_build_is_tried():
    assert {name for name, shape in SHAPES.items() if shape.model_type != "qwen3"} == BUILDS


def test_a_step_reads_the_experts_that_its_tokens_choose():
    shape = SHAPES["qwen3-30b-a3b"]
    expert = 3 * shape.layers * shape.hidden * shape.intermediate
    assert shape.read_params(1) == pytest.approx(shape.body_params)
    assert (shape.read_params(32) - shape.read_params(1)) / expert == pytest.approx(111.8 - 8, abs=0.1)
    assert shape.read_params(1e6) == pytest.approx(29.9e9, rel=0.01)


def test_the_drafter_agrees_on_just_the_share_asked_for(order):
    model = build(TINY, order.agreeing(0.8), CPU, torch.float32, seed=1)
    for acceptance in (0.8, 0.3, 1.0):
        set_head(model, order.agreeing(acceptance))
        with torch.no_grad():
            drafts = model(torch.arange(TINY.vocab)[:, None]).logits[:, 0].argmax(-1)
        assert sorted(drafts.tolist()) == list(range(TINY.vocab))
        assert (drafts == order.next).float().mean() == pytest.approx(acceptance, abs=1 / TINY.vocab)


def test_a_continuation_meets_every_token_before_any_comes_again(order):
    assert sorted(order.expected([5], TINY.vocab)) == list(range(TINY.vocab))


def test_the_same_seed_makes_the_same_pair(order):
    again = Order(TINY.vocab)
    assert order.next.equal(again.next)
    assert order.agreeing(0.5).equal(again.agreeing(0.5))
    assert not order.next.equal(Order(TINY.vocab, seed=1).next)
    one, two = (build(TINY, order.next, CPU, torch.float32, seed=3) for _ in range(2))
    assert all(a.equal(b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_split_over_devices_says_the_same(order):
    whole = build(TINY, order.next, CPU, torch.float32, seed=0)
    places = even_split(TINY, [torch.device("cpu"), torch.device("cpu", 0)])
    split = build(TINY, order.next, places, torch.float32, seed=0)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert whole(ids).logits.argmax(-1).equal(split(ids).logits.argmax(-1))


def test_every_module_stands_where_it_is_placed(order, monkeypatch):
    monkeypatch.setattr(synthetic, "_fill", lambda *_: None)  # meta tensors have no generator
    places = even_split(TINY, [torch.device("cpu")])
    elsewhere = {"model.layers.1", "model.norm", "model.rotary_emb"}
    model = build(TINY, order.next, places | dict.fromkeys(elsewhere, torch.device("meta")), torch.float32, seed=0)
    found = {name: tensor.device.type for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    on_meta = {name for name, device in found.items() if device == "meta"}
    assert on_meta == {name for name in found if name.startswith(tuple(elsewhere))}
    assert len(on_meta) == 1 + 11 + 2  # the last norm, a layer's weights, two tables of frequencies


def test_an_even_split_counts_the_head_as_the_layers_that_it_weighs():
    devices = [torch.device("cuda", index) for index in range(3)]
    places = even_split(SHAPES["8b"], devices)
    stages = [sum(device == one for name, device in places.items() if "layers" in name) for one in devices]
    assert stages == [13, 13, 10]
    assert places["model.embed_tokens"] == places["model.rotary_emb"] == devices[0]
    assert places["model.norm"] == places["lm_head"] == devices[-1]


def test_the_planner_counts_every_number_of_a_model(order):
    model = build(TINY, order.next, CPU, torch.bfloat16, seed=0)
    config = synthetic.config_of(TINY, torch.bfloat16).to_dict()
    shape = shape_from_config(config, "tiny")
    assert shape.weight_bytes == sum(weight.nbytes for weight in model.parameters())
    assert shape.known_layout
    assert not shape.tied
    assert shape.why_general is None


@pytest.mark.parametrize(
    ("name", "gigabytes", "kv_kib"),
    [
        ("8b", 15.14, 144),
        ("1.7b", 3.44, 112),
        ("0.6b", 1.19, 112),
        ("llama-8b", 15.01, 128),
        ("mistral-7b", 14.22, 128),
        ("phi-4", 28.29, 200),
        ("olmo3-7b", 13.77, 512),
        ("gemma3-12b", 23.53, 384),
        ("glm4-9b", 17.56, 40),
    ],
)
def test_shapes_read_as_many_bytes_as_the_real_models(name, gigabytes, kv_kib):
    shape = SHAPES[name]
    assert 2 * (shape.body_params + shape.head_params) / 1e9 == pytest.approx(gigabytes, abs=0.005)
    assert 2 * shape.kv_numbers == kv_kib * 1024


def test_the_rows_of_mixed_lengths_are_those_that_others_were_measured_on():
    rows = mixed_lengths(100)
    assert (rows.prompt_total, rows.new_total) == (305_678, 202_996)
    assert (len(rows.prompts), rows.at_once, rows.max_length) == (1000, 512, 2525)


def test_one_wrong_or_missing_token_makes_a_row_wrong(order):
    rows = equal_lengths(TINY.vocab, 3, 4, 5, seed=0)
    right = [Completion(request, order.expected(request.prompt_token_ids, 5), "length") for request in rows.requests()]
    assert rows.right(order, right[::-1]) == 3
    wrong = [*right[0].token_ids]
    wrong[2] += 1
    assert rows.right(order, [Completion(right[0].request, wrong, "length"), *right[1:]]) == 2
    short = Completion(right[0].request, right[0].token_ids[:-1], "length")
    assert rows.right(order, [short, *right[1:]]) == 2
    assert rows.right(order, right[1:]) == 2


def test_shares_of_k_count_rounds():
    stats = EngineStats(rounds=10, k_changes=[(0, 2), (4, 0), (5, 2)])
    assert k_shares(stats) == {2: 0.9, 0: 0.1}
