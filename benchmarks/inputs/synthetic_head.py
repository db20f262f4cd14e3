"""An EAGLE-3 head of real size beside a synthetic target, with a designed acceptance.

The head drafts from the token alone: each token's queries and keys point where its embedding does, so that a position attends to itself
(or to the same token, which says the same), and what it leaves is a projection of the token's values. Row t of its language-model head
is what the token before t leaves. The target's hidden states are joined and normed, and weigh next to nothing in the sum; every product
and every byte of KV is paid for all the same. It drafts the first tokens of the vocabulary: the rows are made of those.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.inputs.synthetic import Shape
from specbatch.eagle3 import Eagle3Config
from specbatch.engine.general.eagle3 import Eagle3Drafter
from specbatch.engine.general.eagle3_head import Eagle3Head
from specbatch.engine.general.model import CausalLM

DRAFTED = 32_000  # tokens, as public heads have
_LOGIT = 80.0  # of the drafted token
_SMALL = 1e-3
_ATTENTION = 1.6  # of queries and keys: a position's own score is its square times sqrt(head_dim)
_CHUNK = 1024


def drafted_tokens(shape: Shape) -> int:
    """How many tokens a head drafts beside a target."""
    return min(DRAFTED, shape.vocab)


def head_shape(shape: Shape) -> Shape:
    """What a draft step reads, as a layer of Llama's kind: queries, keys and values come from twice the width."""
    extra = shape.head_dim * (shape.heads + 2 * shape.kv_heads) // 3
    return Shape(
        shape.hidden, shape.intermediate + extra, 1, shape.heads, shape.kv_heads, shape.head_dim, drafted_tokens(shape)
    )


def build_head(shape: Shape, target: CausalLM, following: Tensor, seed: int) -> Eagle3Drafter:
    """A head on its target's device, in its dtype.

    Args:
        shape: of the target.
        target: from synthetic.build.
        following: the token that it drafts after each; closed over the drafted ones  # int64 [vocab]
        seed: of the weights.
    """
    config = Eagle3Config.of(
        {
            "architectures": ["LlamaForCausalLMEagle3"],
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "vocab_size": shape.vocab,
            "draft_vocab_size": drafted_tokens(shape),
            "max_position_embeddings": 40960,
            "rope_theta": 1e6,
            "norm_before_residual": True,
        },
        "synthetic head",
    )
    device, dtype = target.input_device, target.model.dtype
    head = Eagle3Head(config).to(device, dtype).requires_grad_(requires_grad=False)
    head.embed_tokens.weight = target.model.get_input_embeddings().weight
    head.draft_to_target = torch.arange(config.draft_vocab_size, device=device)
    _fill(head, torch.Generator(device).manual_seed(seed))
    set_head_drafts(head, following)
    return Eagle3Drafter(head, config.layers_of(shape.layers))


@torch.no_grad()
def _fill(head: Eagle3Head, generator: torch.Generator) -> None:
    config, attention = head.config, head.layer.self_attn
    for name, weight in head.named_parameters():
        if weight.dim() > 1 and not name.startswith(("embed_tokens", "lm_head")):
            weight.normal_(0.0, weight.shape[1] ** -0.5, generator=generator)
    head.layer.mlp.down_proj.weight.mul_(_SMALL)
    head.layer.hidden_norm.weight.fill_(_SMALL)
    width, groups = config.hidden_size, config.num_heads // config.num_kv_heads
    keys = attention.k_proj.weight.view(config.num_kv_heads, config.head_dim, 2 * width)
    keys.mul_(_ATTENTION * 2**0.5)  # of the two halves the states' is small
    attention.q_proj.weight.copy_(keys.repeat_interleave(groups, 0).reshape(-1, 2 * width))
    attention.v_proj.weight.mul_(2**0.5)


@torch.no_grad()
def set_head_drafts(head: Eagle3Head, following: Tensor) -> None:
    """Makes a head draft following[x] after x: that row of its language-model head is what x leaves.

    Args:
        head: from build_head; its language-model head is overwritten in place, in float32's precision.
        following: see build_head.
    """
    count, device = head.config.draft_vocab_size, head.device
    before = torch.empty_like(following)
    before[following] = torch.arange(len(following))
    tokens = before[:count].to(device)
    assert int(tokens.max()) < count, "drafted tokens follow drafted tokens"
    groups = head.config.num_heads // head.config.num_kv_heads
    for start in range(0, count, _CHUNK):
        some = tokens[start : start + _CHUNK, None]
        states = torch.zeros(*some.shape, head.config.hidden_size, dtype=head.dtype, device=device)
        _, _, values, residual = head.qkv(some, states, torch.zeros_like(some))
        attended = values.repeat_interleave(groups, 1).transpose(1, 2).flatten(2)
        left = head.finish(attended, residual)
        normed = head.norm(left)[:, 0].float()
        head.lm_head.weight[start : start + _CHUNK] = _LOGIT * normed / normed.square().sum(-1, keepdim=True)
