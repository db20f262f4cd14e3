"""Which models run as recorded rounds on GPUs, for plans and for the README."""

from __future__ import annotations

# Model types whose models run as recorded rounds on GPUs, and what people call them: a description of engine/graphs/describe says their
# decoders. When a model is loaded the engine finds out for itself, by running both, and says why where it does not.
RECORDED = {
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "mistral": "Mistral",
    "ministral": "Ministral",
    "ministral3": "Ministral 3",
    "gemma": "Gemma",
    "gemma2": "Gemma 2",
    "gemma3": "Gemma 3",
    "gemma3_text": "Gemma 3",
    "phi3": "Phi-3 and Phi-4",
    "olmo2": "OLMo 2",
    "olmo3": "OLMo 3",
    "smollm3": "SmolLM3",
    "granite": "Granite 3",
    "glm": "GLM-4",
    "glm4": "GLM-4",
    "seed_oss": "Seed-OSS",
    "apertus": "Apertus",
    "arcee": "Arcee",
    "helium": "Helium",
    "ernie4_5": "ERNIE 4.5",
    "exaone4": "EXAONE 4 (without windows)",
    "cwm": "CWM",
    "vaultgemma": "VaultGemma",
}
