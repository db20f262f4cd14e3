"""Which kernel, or which of PyTorch's operations, takes what; and the whole engine over the kernels."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs import pair as pairs
from specbatch.engine.graphs import triton_ops
from specbatch.engine.graphs.describe import triton_operations
from specbatch.engine.graphs.describe.operations import Normed
from specbatch.engine.graphs.kernels import token_choice
from specbatch.engine.graphs.kernels.linears import linear_configs
from specbatch.engine.graphs.kv.paging import PAGE, Pages, Tiles
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.triton_ops import TritonOps
from tests.engine import tiny
from tests.engine.graphs import fast

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EPS = 1e-6


@pytest.fixture
def called(monkeypatch):
    """The kernels that are called, by name; none of them runs."""
    names = []
    for module in ("activations", "attention", "elementwise", "rope_attention", "linear", "sampling"):
        users = [user for user in (triton_ops, triton_operations, token_choice) if hasattr(user, module)]
        kernels = vars(getattr(users[0], module))
        stand_in = {
            name: lambda *args, _name=f"{module}.{name}", **_: names.append(_name) or args[0]
            for name in kernels
            if not name.startswith("_") and name not in ("TILE", "tile_of")
        }
        stand_in |= {name: kernels[name] for name in ("TILE", "tile_of") if name in kernels}
        for user in users:
            monkeypatch.setattr(user, module, SimpleNamespace(**stand_in))
    return names


def tensors(tokens, outs=32, ins=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(DEVICE, dtype)

    return random(tokens, ins), random(outs, ins), random(ins), random(tokens, outs)


@pytest.mark.parametrize(("tokens", "kernel"), [(1, True), (8, True), (9, False), (100, False)])
def test_linears_of_few_tokens_have_kernels(called, tokens, kernel):
    x, weight, _, residual = tensors(tokens)
    ops = TritonOps()
    ops.linear(x, weight)
    ops.linear_add(x, weight, residual)
    assert called == (["linear.linear", "linear.linear_add"] if kernel else [])


FOLDED = ["linear.norm_linear", "linear.norm_gated"]
APART = ["elementwise.rms_norm", "linear.linear", "elementwise.rms_norm", "linear.gated"]


@pytest.mark.parametrize(
    ("tokens", "brief", "expected"),
    [
        (1, True, FOLDED),
        (1, False, FOLDED),
        (2, True, FOLDED),
        (2, False, APART),
        (3, True, APART),
        (40, True, ["elementwise.rms_norm", "elementwise.rms_norm", "activations.gate"]),
    ],
)
def test_the_norm_is_folded_in_for_one_token_and_for_two_of_a_small_model(called, monkeypatch, tokens, brief, expected):
    monkeypatch.setattr(linear_configs, "BRIEF", 32 * 16 * 4 + brief)
    x, weight, norm, _ = tensors(tokens)
    TritonOps().norm_linear(x, norm, EPS, weight)
    TritonOps().norm_gated(x, norm, EPS, weight)
    assert called == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(8, ["rope_attention.rope_attend"]), (9, ["elementwise.rope_write", "attention.attend_rows"])],
)
def test_rotation_and_attention_are_one_for_few_tokens_of_a_row(called, tokens, expected):
    """Four heads share a kv head: nine tokens are more queries than a tile of 32 holds."""
    pages = Pages(
        [torch.zeros(2, 1, PAGE, 8, device=DEVICE)], [torch.zeros(2, 1, PAGE, 8, device=DEVICE)], torch.zeros(2, 1)
    )
    qkv, slots = torch.zeros(tokens, 48, device=DEVICE), torch.zeros(tokens, dtype=torch.int64, device=DEVICE)
    TritonOps().rope_attend(qkv, None, None, EPS, qkv, pages, 0, slots[:1], slots[:1], slots, slots, 1.0)
    assert called == expected


@pytest.mark.parametrize(("tokens", "ahead"), [(1, False), (2, True), (8, True), (9, False)])
def test_few_tokens_hand_their_norm_on_to_the_next_linear(monkeypatch, tokens, ahead):
    monkeypatch.setattr(linear_configs, "BRIEF", 0)
    x, weight, norm, residual = tensors(tokens, 32, 32)
    ops = TritonOps()
    total, found = ops.linear_add_ahead(x, weight, residual.clone(), norm, weight)
    assert (found is not None) == ahead
    expected = TorchOps().linear_add(x, weight, residual)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(total, expected, **close)
    for op in ("norm_linear", "norm_gated"):
        after = {"ahead": found, "following": weight}
        wanted = getattr(TorchOps(), op)(expected, norm, EPS, weight)
        torch.testing.assert_close(getattr(ops, op)(total, norm, EPS, weight, **after), wanted, **close)


@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_a_norm_behind_a_linear_brings_the_next_norm_with_it(called, tokens):
    x, weight, norm, residual = tensors(tokens, 32, 32)
    ops = TritonOps()
    ops.norm_linear(x, norm, EPS, weight, ahead=Normed(residual))
    ops.norm_gated(x, norm, EPS, weight, Normed(residual))
    few = ["linear.linear", "linear.gated"]
    assert called == (few if tokens <= 8 else ["activations.gate"])


def test_two_tokens_of_a_small_model_hand_nothing_on_to_a_linear_that_folds_the_norm_in():
    x, weight, norm, residual = tensors(2, 32, 32)
    assert TritonOps().linear_add_ahead(x, weight, residual, norm, weight)[1] is None


@pytest.mark.parametrize("layout", ["input", "weight", "residual"])
def test_strided_views_go_to_pytorch(called, layout):
    x, weight, _, residual = tensors(4, 32, 32)
    turned = {"input": x, "weight": weight, "residual": residual}
    turned[layout] = torch.cat([turned[layout]] * 2, 1)[:, ::2]
    expected = TorchOps().linear_add(*turned.values())
    out = TritonOps().linear_add(turned["input"], turned["weight"], turned["residual"])
    assert called == []
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def paged(dtype):
    """One row of three tokens in slot 0."""
    pages = [torch.zeros(2, 1, PAGE, 8, dtype=dtype, device=DEVICE)]
    table = torch.tensor([[1], [0]], dtype=torch.int32, device=DEVICE)
    return Pages(pages, [pages[0].clone()], table)


def every_operation(ops, dtype):
    """What each operation of a layer and of choosing gives, the pages' content last."""
    x, weight, norm, residual = tensors(3, 32, 32, dtype)
    pages, slots = paged(dtype), torch.zeros(3, dtype=torch.int64, device=DEVICE)
    positions, rope = torch.arange(3, device=DEVICE), torch.rand(PAGE, 8, device=DEVICE, generator=seeded())
    q = ops.rope_write(weight[:3], None, None, EPS, rope, pages, 0, slots, positions)
    tiles = Tiles(torch.tensor([[0, 0, 0, 3]], dtype=torch.int32, device=DEVICE))
    keys = ops.position_keys(positions, positions[:, None], Purpose.TOKEN)
    return [
        ops.rms_norm(x, norm, EPS),
        ops.norm_gated(x, norm, EPS, weight),
        ops.linear_add(x, weight, residual.clone()),
        q,
        ops.attend_rows(q[None], pages, 0, slots[:1], positions[:1], 0.3),
        ops.rope_attend(weight[:3], None, None, EPS, rope, pages, 0, slots[:1], positions[:1], slots, positions, 0.3),
        ops.attend_packed(q, pages, 0, tiles, 0.3),
        keys,
        ops.sample(residual, keys.reshape(-1), torch.ones(3, device=DEVICE))[0],
        ops.sample(residual, None, None)[0],
        *ops.top_candidates(residual, 4),
        *pages.keys,
        *pages.values,
    ]


def seeded():
    return torch.Generator(DEVICE).manual_seed(1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_dtype_without_kernels_is_computed_all_the_same(dtype):
    for mine, expected in zip(every_operation(TritonOps(), dtype), every_operation(TorchOps(), dtype), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_for_float64_no_kernel_is_called(called):
    names = ("position_keys",)  # of integers
    x, weight, norm, residual = tensors(3, 32, 32, torch.float64)
    ops = TritonOps()
    ops.rms_norm(x, norm, EPS), ops.linear(x, weight), ops.norm_gated(x, norm, EPS, weight)
    ops.sample(residual, None, None), ops.top_candidates(residual, 2)
    assert not [name for name in called if name not in names]


@pytest.mark.slow
@pytest.mark.skipif(DEVICE.type == "cuda", reason="gpu/test_engine.py does more of this")
@pytest.mark.parametrize("drafts", ["model", "ngram"])
def test_the_engine_over_the_kernels_gives_the_targets_own_tokens(pair, monkeypatch, drafts):
    """In Triton's interpreter: a row that draws beside one that does not, without warm-up."""
    monkeypatch.setattr(pairs, "operations", lambda device: TritonOps())
    drafter = pair.twin if drafts == "model" else NGramDrafter()
    engine = fast.engine(pair.target, drafter, fast.Scripted([2]), max_sequences=2, num_speculative_tokens=2)
    engine.runner.warm = True
    rows = fast.requests([pair.prompts[0], pair.prompts[2]], 4, fast.MIXED[:2])
    out = fast.finish(engine, rows)
    general, _ = tiny.decode(pair.target, None, rows)
    assert tiny.tokens(out, 2) == tiny.tokens(general, 2)
    assert engine.stats.acceptance_rate == 1.0 or drafts == "ngram"
