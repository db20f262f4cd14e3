"""What the tests on GPUs share: the embedded pair, and what its target says of every token."""

import contextlib
import functools
import warnings
from types import SimpleNamespace

import torch
from transformers import AutoModelForCausalLM

from specbatch.embedded import path as embedded
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.margins import Contest, tie_bound
from tests.engine.graphs.kv.rounded_cache import RoundedCache

GPU = torch.device("cuda", 0)


@contextlib.contextmanager
def no_waits():
    """Within, what makes the host wait for the GPU is an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # that this is a prototype, said once a process: as an error it left the mode on for the tests behind
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def embedded_prompts(count=32, shortest=8, longest=90):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(shortest, longest, (count,), generator=generator).tolist()
    return [torch.randint(3, 512, (n,), generator=generator).tolist() for n in lengths]


def load_pair(dtype, target=None, drafter=None, quantization=None):
    """The embedded pair, on the first GPU unless maps say otherwise."""
    loaded = [
        load_causal_lm(str(embedded(role)), device_map=device_map or {"": str(GPU)}, dtype=dtype, quantization=fewer)
        for role, device_map, fewer in (("target", target, None), ("drafter", drafter, quantization))
    ]
    return SimpleNamespace(target=loaded[0], drafter=ModelDrafter(loaded[1]))


@functools.cache
def alone(dtype):
    """The embedded target in float32, over the weights that a run in the dtype has."""
    return AutoModelForCausalLM.from_pretrained(embedded("target"), dtype=dtype).float().to(GPU)


@torch.inference_mode()
def judged(completions, dtype, *, fp8_kv=False):
    """Every token against the target alone, or that with KV in FP8: how many exact, ties, unexplained.

    The target is given each row's own tokens: where all of them are its choice, they are what it would have generated.
    """
    found = {"exact": 0, "tie": 0, "unexplained": 0}
    for completion in completions.values():
        request, tokens = completion.request, list(completion.token_ids)
        prompt = list(request.prompt_token_ids)
        ids, cache = torch.tensor([prompt + tokens], device=GPU), RoundedCache() if fp8_kv else None
        logits = alone(dtype)(ids, past_key_values=cache).logits[0, len(prompt) - 1 : -1].cpu()
        for position, (token, likeliest, at) in enumerate(zip(tokens, logits.argmax(-1).tolist(), logits, strict=True)):
            if request.sampling.greedy and not request.logits.processors and token == likeliest:
                found["exact"] += 1
                continue
            contest = Contest.of(at, request, tokens[:position])
            exact = contest.winners(0.0)[:1] == [token]
            near = exact or token in contest.winners(tie_bound(dtype, at, fp8_kv=fp8_kv))
            found["exact" if exact else "tie" if near else "unexplained"] += 1
    return found


def graphs_of(engine):
    """Each step that ran twice is captured; how many graphs the largest of them has."""
    graphs = engine.runner.pair.graphs
    assert len(graphs) > 0
    return max(len(segments) for segments in graphs._captured.values())
