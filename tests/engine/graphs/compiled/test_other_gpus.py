"""GPUs that are not here: every kernel compiles for them, and fits their shared memory."""

import json
import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton")

from triton.runtime.errors import OutOfResources

from specbatch.engine.graphs.kernels import fitting

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="what is compiled is for the GPU that is here")


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(fitting, "_known", {})


KERNELS = {
    "llama": "dot fma _rows_kernel _rope_attend_kernel _packed_kernel _prefix_kernel _own_kernel _rope_write _sample_rows _change_rows _subtract",
    "others": "_activate _norm_add _norm_heads _rope_attend_kernel _packed_kernel",
    "quantized": "dot fma fma_words _widen_kernel",
    "experts": "_norm_scores _route _group _gate_up _down _grouped _combine",
    "fp8": "round_inputs in_registers on_tensor_cores",
    "fp8kv": "_rows_kernel _rope_attend_kernel _packed_kernel _prefix_kernel _own_kernel _rope_write",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "dtype", "groups"),
    [
        (89, "bfloat16", ("llama", "others", "fp8", "pages fp8kv")),
        (90, "bfloat16", ("llama", "quantized", "experts", "fp8", "pages fp8kv")),
        (90, "float32", ("the largest llama",)),
        (100, "bfloat16", ("the largest llama",)),
    ],
)
def test_every_kernel_compiles_and_fits_the_shared_memory(capability, dtype, groups):
    """Of an L40S or RTX 4090, an H100, a B200. A process for each: torch and Triton take seconds to import."""
    command = [sys.executable, "-m", "tests.engine.graphs.compiled.compile_for", str(capability), dtype, *groups]
    done = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "0"}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for group, found in json.loads(done.stdout).items():
        assert found["refused"] == [], group
        wanted = set(KERNELS[group.split()[-1]].split())
        if capability == 90 and dtype == "bfloat16":
            wanted |= {"llama": {"on_wgmma"}, "fp8": {"on_wgmma_fp8"}}.get(group, set())
        assert wanted <= set(found["compiled"]), group


def running(fits):
    """A kernel of which so many stages fit."""
    tried = []

    def run(stages):
        tried.append(stages)
        if stages > fits:
            raise OutOfResources(stages, fits, "shared memory")

    return run, tried


def test_fewer_stages_are_taken_where_memory_is_short_and_remembered():
    run, tried = running(2)
    for _ in range(2):
        fitting.with_stages("kernel", 4, run)
    assert tried == [4, 3, 2, 2]


def test_where_not_even_one_stage_fits_it_is_an_error():
    run, tried = running(0)
    with pytest.raises(OutOfResources):
        fitting.with_stages("kernel", 2, run)
    assert tried == [2, 1]
