"""MiMo for transformers, which does not know it: Qwen2's modules by its name. Its repositories bring the same as Python code, which is not run.

Its layers for drafting lie beside (specbatch/mtp.py), and are no part of the model.
"""

from __future__ import annotations

from typing import ClassVar

from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from specbatch.mtp import MIMO


class MiMoConfig(Qwen2Config):  # type: ignore[misc]  # of transformers, which has no types here
    """As Qwen2's."""

    model_type = MIMO


class MiMoForCausalLM(Qwen2ForCausalLM):  # type: ignore[misc]
    """As Qwen2's."""

    config_class = MiMoConfig
    _keys_to_ignore_on_load_unexpected: ClassVar = [r"model\.mtp_layers\."]


AutoConfig.register(MIMO, MiMoConfig, exist_ok=True)
AutoModelForCausalLM.register(MiMoConfig, MiMoForCausalLM, exist_ok=True)
