"""The general runner's kernels against PyTorch's attention; on a GPU, or in Triton's interpreter."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

from specbatch.engine.general import attention, cache, slot_write
from specbatch.engine.general.kernels import norm
from specbatch.engine.general.kernels import slots as slot_kernels
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.slot_write import SlotWrite
from specbatch.engine.request import Request
from tests.engine import architectures, tiny

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "tokens", "dim", "extent"), [(4, 4, 1, 16, 70), (2, 2, 1, 24, 330), (6, 2, 3, 24, 130)]
)
def test_rows_of_their_own_lengths_attend_as_pytorch_does(heads, kv_heads, tokens, dim, extent):
    rows = 2
    query = normal(rows, tokens, heads, dim).transpose(1, 2)  # as models have it
    slots = normal(rows + 1, kv_heads, extent + 9, dim, seed=1), normal(rows + 1, kv_heads, extent + 9, 32, seed=2)
    key, value = (tensor[:rows, :, :extent] for tensor in slots)
    last = torch.tensor([[extent - tokens], [tokens]], device=DEVICE) + torch.arange(tokens, device=DEVICE)
    mask = torch.arange(extent, device=DEVICE)[None, None, None] <= last[:, None, :, None]
    assert slot_kernels.takes(*(tensor.bfloat16() for tensor in (query, key, value)))
    got = slot_kernels.attend(query, key, value, mask, 0.3)
    repeated = (tensor.repeat_interleave(heads // kv_heads, 1) for tensor in (key, value))
    expected = F.scaled_dot_product_attention(query, *repeated, attn_mask=mask, scale=0.3).transpose(1, 2)
    assert got.is_contiguous()
    assert torch.allclose(got, expected, atol=1e-5)


def test_stretches_that_a_row_does_not_reach_add_nothing():
    query, key, value = normal(1, 1, 1, 16), normal(1, 1, 600, 16, seed=1), normal(1, 1, 600, 16, seed=2)
    mask = torch.arange(600, device=DEVICE)[None, None, None] < 5  # of several stretches, the first alone
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
    assert torch.allclose(slot_kernels.attend(query, key, value, mask, 1.0)[:, 0], expected[:, :, 0], atol=1e-5)


def test_keys_and_values_are_written_to_their_positions():
    slots = torch.zeros(3, 2, 9, 16, device=DEVICE), torch.zeros(3, 2, 9, 8, device=DEVICE)
    key, value = normal(2, 3, 2, 16).transpose(1, 2), normal(2, 3, 2, 8, seed=1).transpose(1, 2)
    positions = torch.tensor([[1, 4, 8], [0, 7, 2]], device=DEVICE)
    slot_kernels.write(slots[0][:2], slots[1][:2], key, value, positions)
    for tensor, new in zip(slots, (key, value), strict=True):
        for row in range(2):
            assert torch.equal(tensor[row][:, positions[row]], new[row])
        assert int((tensor != 0).sum()) == new.numel()


def test_heads_too_wide_for_a_multiprocessor_are_left_to_pytorch():
    wide = torch.empty(1, 1, 1, 512, device=DEVICE, dtype=torch.bfloat16)
    assert not slot_kernels.takes(wide, wide, wide)
    slot_kernels.try_out(torch.device(DEVICE))


@pytest.mark.parametrize(("size", "biased"), [(48, True), (33, False)])
def test_a_layer_norm_is_that_of_pytorch(size, biased):
    x, weight, bias = 3 + normal(2, 1, size), normal(size, seed=1), normal(size, seed=2) if biased else None
    assert norm.takes(x, weight, bias)
    expected = F.layer_norm(x, (size,), weight, bias, 1e-5)
    assert torch.allclose(norm.layer_norm(x, weight, bias, 1e-5), expected, atol=1e-5)


def test_a_layer_norm_of_many_rows_or_without_weights_is_left_to_pytorch():
    x, weight = normal(300, 8), normal(8)
    assert not norm.takes(x, weight, weight)
    assert not norm.takes(x[:4], None, None)
    assert not norm.takes(x[:4, ::2], weight[:4], None)


@pytest.mark.slow
@pytest.mark.parametrize("extent", [70, 330])
def test_a_token_sees_its_own_keys_while_they_are_written(extent):
    """Also where another row of the same launch is padding, whose keys go to the bin behind the extent."""
    slots = [normal(2, 3, extent + 9, 16, seed=seed) for seed in (1, 2)]
    query, key, value = (normal(2, 1, 3, 16, seed=seed).transpose(1, 2) for seed in (3, 4, 5))
    positions = torch.tensor([[extent - 1], [extent + 8]], device=DEVICE)
    mask = torch.ones(2, 1, 1, extent, dtype=torch.bool, device=DEVICE)
    written = [tensor.clone() for tensor in slots]
    slot_kernels.write(*written, key, value, positions)
    expected = slot_kernels.attend(query, *(tensor[:, :, :extent] for tensor in written), mask, 0.3)
    seen = tuple(tensor[:, :, :extent] for tensor in slots)
    got = slot_kernels.attend(query, *seen, mask, 0.3, SlotWrite(*slots, key, value, positions, seen))
    assert torch.allclose(got, expected, atol=1e-6)
    assert all(torch.equal(tensor, other) for tensor, other in zip(slots, written, strict=True))


@pytest.mark.skipif(
    DEVICE == "cuda", reason="float32 takes a minute to compile; general/test_captured decodes by them on a GPU"
)
@pytest.mark.slow
def test_a_model_over_slots_decodes_by_them(monkeypatch):
    rows = [Request(str(n), [n + 3, 1, 4][: n + 1], 3) for n in range(2)]

    def run():
        done, _ = tiny.decode(
            CausalLM(architectures.build("gpt2")), None, rows, max_sequences=2, num_speculative_tokens=0
        )
        return {key: row.token_ids for key, row in done.items()}

    expected = run()
    monkeypatch.setattr(slot_kernels, "_DTYPES", (torch.float32,))
    for module in (cache, attention, slot_write):
        monkeypatch.setattr(module, "kernels", lambda device: slot_kernels)
    assert run() == expected
