import copy
from types import SimpleNamespace

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from tests.engine import tiny


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # tiny tensors: threads only wait for each other


@pytest.fixture(scope="session")
def pair():
    """A tiny target with its greedy reference on mixed prompts, a drafter that is sometimes right, and its exact twin."""
    model = tiny.qwen3()
    rows = tiny.prompts()
    continued = tiny.greedy_reference(model, rows, 40)
    return SimpleNamespace(
        prompts=rows,
        expected=[row[: tiny.NEW] for row in continued],
        continued=continued,
        noisy=ModelDrafter(CausalLM(tiny.noisy(model)), prefill_chunk=32),
        twin=ModelDrafter(CausalLM(copy.deepcopy(model)), prefill_chunk=32),
        target=CausalLM(model),
    )
