"""EAGLE-3 heads for the tiny target, in both public layouts, and the paper's forward written anew."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from specbatch.engine.general.model import CausalLM
from specbatch.engine.loading.eagle3 import load_eagle3
from tests.engine import tiny

WIDTH, HEADS, KV_HEADS, HEAD_DIM, INNER = 32, 4, 2, 8, 48
DRAFTED = 40  # of the target's 64 tokens


def layer(**changes) -> dict:
    return {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": tiny.VOCAB,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5000.0,
    } | changes


def safeailab(**changes) -> dict:
    return (
        layer()
        | {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": DRAFTED, "torch_dtype": "float32"}
        | changes
    )


def speculators(layer_changes: dict | None = None, **changes) -> dict:
    return {
        "architectures": ["Eagle3Speculator"],
        "auto_map": {"": "eagle3.Eagle3SpeculatorConfig"},
        "speculators_model_type": "eagle3",
        "speculators_config": {"algorithm": "eagle3", "verifier": {"name_or_path": "tiny"}},
        "draft_vocab_size": DRAFTED,
        "transformer_layer_config": layer(**(layer_changes or {})),
    } | changes


def weights(config: dict, *, joined: int = 3, seed: int = 7, embedding: bool = True) -> dict[str, torch.Tensor]:
    """Random weights under the names of the config's layout."""
    inner = config.get("transformer_layer_config", config)
    prefix = "layers.0." if inner is not config else "midlayer."
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator) * 0.3

    queries, keys = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    found = {
        "fc.weight": random(WIDTH, joined * WIDTH),
        "norm.weight": 1 + random(WIDTH),
        "lm_head.weight": random(config["draft_vocab_size"], WIDTH),
        f"{prefix}self_attn.q_proj.weight": random(queries, 2 * WIDTH),
        f"{prefix}self_attn.k_proj.weight": random(keys, 2 * WIDTH),
        f"{prefix}self_attn.v_proj.weight": random(keys, 2 * WIDTH),
        f"{prefix}self_attn.o_proj.weight": random(WIDTH, queries),
        f"{prefix}mlp.gate_proj.weight": random(INNER, WIDTH),
        f"{prefix}mlp.up_proj.weight": random(INNER, WIDTH),
        f"{prefix}mlp.down_proj.weight": random(WIDTH, INNER),
        f"{prefix}input_layernorm.weight": 1 + random(WIDTH),
        f"{prefix}hidden_norm.weight": 1 + random(WIDTH),
        f"{prefix}post_attention_layernorm.weight": 1 + random(WIDTH),
    }
    if inner["model_type"] == "qwen3":
        found |= {f"{prefix}self_attn.{name}_norm.weight": 1 + random(HEAD_DIM) for name in "qk"}
    if config.get("norm_before_fc"):
        found["input_norm.weight"] = 1 + random(joined * WIDTH)
    if embedding:
        found["embed_tokens.weight"] = random(tiny.VOCAB, WIDTH)
    if config["draft_vocab_size"] < tiny.VOCAB:
        chosen = torch.randperm(tiny.VOCAB, generator=generator)[: config["draft_vocab_size"]].sort().values
        found["d2t"] = chosen - torch.arange(len(chosen))
        found["t2d"] = torch.zeros(tiny.VOCAB, dtype=torch.bool).index_fill_(0, chosen, True)
    return found


def write(folder: Path, config: dict, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def load(folder: Path, target: CausalLM):
    return load_eagle3(folder, [folder / "model.safetensors"], target, device="cpu", name="head")


class Paper:
    """Section 3 of arXiv 2503.01840, one row at a time, without a cache: every draft is worked out from the whole prefix.

    Args:
        config: of either layout.
        tensors: by the names of that layout.
        target: transformers' model, of which hidden_states are asked for.
        layers: whose inputs are joined.
    """

    def __init__(self, config, tensors, target, layers):
        self.inner = config.get("transformer_layer_config", config)
        self.config, self.tensors, self.target, self.layers = config, tensors, target, layers
        self.prefix = "layers.0." if self.inner is not config else "midlayer."

    def drafts(self, tokens: list[int], k: int) -> list[int]:
        """The k greedy drafts after a row's tokens: g_i beside e(t_{i+1}), and beyond the target's states a_i in place of g_i."""
        with torch.no_grad():
            states = self.target(torch.tensor([tokens[:-1]]), output_hidden_states=True).hidden_states
        joined = torch.cat([states[one][0] for one in self.layers], -1)  # the input of layer i is hidden_states[i]
        if self.config.get("norm_before_fc"):
            joined = self._norm(joined, "input_norm.weight")
        g = joined @ self.tensors["fc.weight"].T
        following, found = tokens[1:], []
        for _ in range(k):
            a, logits = self._forward(torch.tensor(following), g)
            token = int(logits[-1].argmax())
            token += int(self.tensors["d2t"][token]) if "d2t" in self.tensors else 0
            found.append(token)
            following, g = [*following, token], torch.cat([g, a[-1:]])
        return found

    def _forward(self, tokens, g):
        embedding = self.tensors.get("embed_tokens.weight", self.target.get_input_embeddings().weight.detach())
        embedded = self._norm(embedding[tokens], self.prefix + "input_layernorm.weight")
        normed = self._norm(g, self.prefix + "hidden_norm.weight")
        both = torch.cat([embedded, normed], -1)
        count = len(tokens)

        def project(name, heads):
            x = (both @ self._weight(f"self_attn.{name}_proj").T).view(count, heads, HEAD_DIM)
            if self.inner["model_type"] == "qwen3" and name != "v":
                x = self._norm(x, f"{self.prefix}self_attn.{name}_norm.weight")
            return x

        q, key, v = project("q", HEADS), project("k", KV_HEADS), project("v", KV_HEADS)
        q, key = self._rotate(q), self._rotate(key)
        key, v = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (key, v))
        scores = torch.einsum("qhd,khd->hqk", q, key) / HEAD_DIM**0.5
        scores = scores.masked_fill(torch.ones(count, count).triu(1).bool(), -torch.inf)
        out = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(count, -1)
        residual = normed if self.config.get("norm_before_residual") else g
        h = residual + out @ self._weight("self_attn.o_proj").T
        x = self._norm(h, self.prefix + "post_attention_layernorm.weight")
        h = (
            h
            + (F.silu(x @ self._weight("mlp.gate_proj").T) * (x @ self._weight("mlp.up_proj").T))
            @ self._weight("mlp.down_proj").T
        )
        return h, self._norm(h, "norm.weight") @ self.tensors["lm_head.weight"].T

    def _weight(self, name):
        return self.tensors[f"{self.prefix}{name}.weight"]

    def _norm(self, x, name):
        return x / (x.pow(2).mean(-1, keepdim=True) + self.inner["rms_norm_eps"]).sqrt() * self.tensors[name]

    def _rotate(self, x):
        half = HEAD_DIM // 2
        angle = torch.arange(len(x))[:, None] / self.inner["rope_theta"] ** (torch.arange(half) / half)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
