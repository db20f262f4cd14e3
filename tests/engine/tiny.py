"""Models small enough for exact comparisons, and the target alone as transformers decodes it."""

import copy
from collections.abc import Sequence

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from specbatch.engine.config import EngineConfig
from specbatch.engine.engine import Engine
from specbatch.engine.general.drafter import Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.make_engine import general_engine
from specbatch.engine.request import Completion, Request
from specbatch.engine.speculation.depth import Speculation

VOCAB = 64
NEW = 25  # tokens of each row in the reference of the fixture `pair`: with them, longer prompts need a second page


def qwen3(seed: int = 1, layers: int = 2):
    """A random Qwen3 in float32 whose greedy continuations wander instead of repeating."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        initializer_range=0.3,
    )
    return Qwen3ForCausalLM(config).float().eval()


def noisy(model, sigma: float = 0.15, seed: int = 5):
    """A copy with noise on its weights: right sometimes, with real attention."""
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(sigma * weight.std() * torch.randn(weight.shape, generator=generator))
    return twin


def prompts(count: int = 20, longest: int = 60, seed: int = 3) -> list[list[int]]:
    """Random prompts of mixed lengths, the shortest of one token."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [1, 2, *torch.randint(1, longest, (count - 2,), generator=generator).tolist()]
    return [torch.randint(0, VOCAB, (length,), generator=generator).tolist() for length in lengths]


def greedy_reference(model, rows: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
    """What transformers' generate gives, one row at a time. The model must not be wrapped in a CausalLM yet."""
    outputs = []
    for row in rows:
        ids = torch.tensor([row], device=model.device)
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False, eos_token_id=None
        )
        outputs.append(out[0, len(row) :].tolist())
    return outputs


def config(num_speculative_tokens: int | None = None, max_speculative_tokens: int = 8, **sizes) -> EngineConfig:
    """An engine's config; None chooses k up to max_speculative_tokens."""
    k, most = num_speculative_tokens, max_speculative_tokens
    return EngineConfig(speculation=Speculation.adaptive(most) if k is None else Speculation.fixed(k), **sizes)


def decode(
    target: CausalLM, drafter: Drafter | None, requests: Sequence[Request], **sizes
) -> tuple[dict[str, Completion], Engine]:
    """Completions by request id, and the engine that made them."""
    engine = general_engine(target, drafter, config(**{"max_length": 128, "prefill_chunk": 32} | sizes))
    return {completion.request.id: completion for completion in engine.generate(requests)}, engine


def tokens(completions: dict[str, Completion], count: int) -> list[list[int]]:
    """Token ids of rows "0" .. count - 1."""
    return [list(completions[str(i)].token_ids) for i in range(count)]
