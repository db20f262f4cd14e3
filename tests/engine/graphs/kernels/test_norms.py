"""Norms behind linears and over all heads against their reference in PyTorch."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.kernels.elementwise import rms_norm
from specbatch.engine.graphs.kernels.norms import norm_add, norm_add_norm, norm_heads
from specbatch.engine.graphs.reference import TorchOps
from tests.engine.graphs.kernels.test_elementwise import DTYPES, random

EPS = 1e-6


def close(ours, theirs):
    """But for two roundings: the reference rounds a norm before it adds it."""
    near = {torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}[ours.dtype]
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=near, atol=near)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 32), (5, 576), (0, 64)])
def test_a_norm_added_to_its_residual_is_the_references(shape, dtype, wide):
    x, residual = random(*shape, dtype=dtype) * 3, random(*shape, dtype=dtype, seed=2)
    weight = random(shape[-1], dtype=torch.float32 if wide else dtype, seed=1)
    expected = TorchOps().norm_add(x, weight, EPS, residual)
    close(norm_add(x, weight, EPS, residual), expected)
    following = random(shape[-1], dtype=weight.dtype, seed=3)
    total, normed = norm_add_norm(x, weight, EPS, residual, following, 1e-5)
    close(total, expected)
    close(normed, TorchOps().rms_norm(total, following, 1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("queries", "keys"), [(64, 32), (48, 48), (96, 8)])
def test_norms_over_all_heads_are_the_references_and_leave_values_alone(queries, keys, dtype):
    qkv = random(5, queries + 2 * keys, dtype=dtype)
    q_norm, k_norm = random(queries, dtype=dtype, seed=1), random(keys, dtype=dtype, seed=2)
    expected = TorchOps().norm_heads(qkv, q_norm, k_norm, EPS)
    values = qkv[:, queries + keys :].clone()
    out = norm_heads(qkv, q_norm, k_norm, EPS)
    close(out, expected)
    assert out.data_ptr() == qkv.data_ptr()
    assert torch.equal(out[:, queries + keys :], values)


def test_weights_wider_than_what_they_multiply_are_not_rounded():
    x, weight = random(3, 64, dtype=torch.float16), 1 + 1e-4 * random(64, seed=1)
    close(rms_norm(x, weight, EPS), TorchOps().rms_norm(x, weight, EPS))
