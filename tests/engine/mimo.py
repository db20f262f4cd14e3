"""A tiny MiMo with a layer for drafting, by its public names, and that layer's forward written anew."""

import json

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from specbatch.engine.general.model import CausalLM
from specbatch.engine.loading.eagle3 import load_mtp
from specbatch.engine.loading.mimo import MiMoConfig, MiMoForCausalLM
from tests.engine import tiny

WIDTH, HEADS, KV_HEADS, HEAD_DIM, INNER, LAYERS = 32, 4, 2, 8, 48, 3


def model(seed: int = 1):
    torch.manual_seed(seed)
    config = MiMoConfig(
        vocab_size=tiny.VOCAB,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=512,
        rope_theta=5000.0,
        rms_norm_eps=1e-5,
        initializer_range=0.3,
        tie_word_embeddings=False,
        num_nextn_predict_layers=1,
    )
    return MiMoForCausalLM(config).float().eval()


def weights(seed: int = 7) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator) * 0.3

    queries, keys = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    norms = ("token_layernorm", "hidden_layernorm", "input_layernorm", "post_attention_layernorm", "final_layernorm")
    found = {f"{name}.weight": 1 + random(WIDTH) for name in norms} | {
        "input_proj.weight": random(WIDTH, 2 * WIDTH),
        "self_attn.o_proj.weight": random(WIDTH, queries),
        "mlp.gate_proj.weight": random(INNER, WIDTH),
        "mlp.up_proj.weight": random(INNER, WIDTH),
        "mlp.down_proj.weight": random(WIDTH, INNER),
    }
    for name, count in (("q", queries), ("k", keys), ("v", keys)):
        found[f"self_attn.{name}_proj.weight"], found[f"self_attn.{name}_proj.bias"] = (
            random(count, WIDTH),
            random(count),
        )
    return found


def write(folder, target, tensors):
    """As a repository of MiMo has it: code of its own is named, and its layer for drafting lies beside the others."""
    folder.mkdir(exist_ok=True)
    target.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling_mimo.MiMoForCausalLM"}, "rope_theta": 5000.0}
    (folder / "config.json").write_text(json.dumps(config))
    whole = {key: tensor.contiguous() for key, tensor in target.state_dict().items()}
    whole |= {f"model.mtp_layers.0.{key}": tensor for key, tensor in tensors.items()}
    save_file(whole, folder / "model.safetensors", {"format": "pt"})
    return folder


def load(folder, target: CausalLM, device="cpu"):
    return load_mtp(folder, [folder / "model.safetensors"], target, device=device, name="mimo")


class Written:
    """The layer, one row at a time, without a cache: every draft is worked out from the whole prefix."""

    def __init__(self, target, tensors):
        self.target, self.tensors = target, tensors

    def drafts(self, tokens: list[int], k: int) -> list[int]:
        with torch.no_grad():
            states = self.target.model(torch.tensor([tokens[:-1]])).last_hidden_state[0]  # after its norm
            following, found = tokens[1:], []
            for _ in range(k):
                after = self._forward(torch.tensor(following), states)
                found.append(int(self.target.lm_head(after[-1]).argmax()))
                following, states = [*following, found[-1]], torch.cat([states, after[-1:]])
        return found

    def _forward(self, tokens, states):
        embedded = self.target.model.embed_tokens(tokens)
        beside = [self._norm(states, "hidden_layernorm"), self._norm(embedded, "token_layernorm")]
        x = torch.cat(beside, -1) @ self.tensors["input_proj.weight"].T
        normed, count = self._norm(x, "input_layernorm"), len(tokens)
        q, k, v = (self._linear(normed, f"self_attn.{name}_proj").view(count, -1, HEAD_DIM) for name in "qkv")
        q, k = self._rotate(q), self._rotate(k)
        k, v = (each.repeat_interleave(HEADS // KV_HEADS, 1) for each in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k) / HEAD_DIM**0.5
        scores = scores.masked_fill(torch.ones(count, count).triu(1).bool(), -torch.inf)
        attended = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(count, -1)
        x = x + attended @ self.tensors["self_attn.o_proj.weight"].T
        normed = self._norm(x, "post_attention_layernorm")
        gated = F.silu(self._linear(normed, "mlp.gate_proj")) * self._linear(normed, "mlp.up_proj")
        return self._norm(x + self._linear(gated, "mlp.down_proj"), "final_layernorm")

    def _linear(self, x, name):
        return x @ self.tensors[f"{name}.weight"].T + self.tensors.get(f"{name}.bias", 0)

    def _norm(self, x, name):
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.tensors[f"{name}.weight"]

    def _rotate(self, x):
        half = HEAD_DIM // 2
        angle = torch.arange(len(x))[:, None] / 5000.0 ** (torch.arange(half) / half)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
