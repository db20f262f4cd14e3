"""A model's own layer for drafting (multi-token prediction), as MiMo has it, behind the seam of EAGLE-3 heads.

Position i takes the target's last state there, after the model's norm, and the token at i + 1, each normed and both projected to one; a decoder layer and
a norm follow, and the model's own head predicts the token at i + 2. Beyond the target's states it goes on from its own output, after that norm, as vLLM's does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from specbatch.eagle3 import Eagle3Config
from specbatch.engine.general.eagle3_head import Eagle3Head


class MtpHead(Eagle3Head):
    """The layer's weights, and its forward but for the attention.

    input_norm: the target's last norm; fc: of both inputs; norm: the layer's own

    Args:
        config: for which `mtp` holds.
    """

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.input_norm = nn.RMSNorm(width, config.rms_norm_eps)
        self.token_norm = nn.RMSNorm(width, config.rms_norm_eps)
        self.fc = nn.Linear(2 * width, width, bias=False)

    def join(self, hidden: Tensor) -> Tensor:
        """The target's states after its last layer, normed.  # [..., hidden]"""
        normed: Tensor = self.input_norm(hidden)
        return normed

    def qkv(self, tokens: Tensor, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See Eagle3Head.qkv."""
        layer = self.layer
        x = self.fc(torch.cat([layer.hidden_norm(states), self.token_norm(self._embed(tokens))], -1))
        return *self._heads(layer.input_layernorm(x), positions), x

    def finish(self, attended: Tensor, residual: Tensor) -> Tensor:
        """See Eagle3Head.finish."""
        states: Tensor = self.norm(super().finish(attended, residual))
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Of what finish left.  # [..., hidden] -> [..., vocab]"""
        logits: Tensor = self.lm_head(states)
        return logits
