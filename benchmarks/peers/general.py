"""The general path, whole forwards as CUDA graphs, beside transformers' generate: shapes of GPT-2 XL and OPT 1.3B with random weights, one GPU.

    python -m benchmarks.peers.general [--models gpt2 opt] [--rows 1 32] [--profile]

64 tokens behind prompts of 128, greedy, prefill included; the second and the third time of each count. `--profile` lists the kernels of a round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GPT2Config, OPTConfig

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.model import CausalLM
from specbatch.engine.make_engine import describe, make_engine
from specbatch.engine.request import Request
from specbatch.engine.speculation import Speculation

PROMPT, NEW = 128, 64
CONFIGS = {
    "gpt2": lambda: GPT2Config(n_embd=1600, n_layer=48, n_head=25),
    "opt": lambda: OPTConfig(
        hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32, word_embed_proj_dim=2048
    ),
    "tiny": lambda: GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=6000),
}


def built(name: str, device: torch.device) -> Any:
    """In bfloat16, with nothing that ends a row."""
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=torch.bfloat16).eval()
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = None
    return model


def best(run: Callable[[], Any], repeats: int = 2) -> tuple[float, Any]:
    """The least seconds, behind `run` once; and what it gave."""
    run()
    seconds, found = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        found = run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = min(seconds, time.perf_counter() - start)
    return seconds, found


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["gpt2", "opt"], choices=CONFIGS)
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in args.models:
        compare(name, args.rows, device, profile=args.profile)


def compare(name: str, counts: list[int], device: torch.device, *, profile: bool) -> None:
    """A model's lines."""
    model = built(name, device)
    prompts = torch.randint(10, 5000, (max(counts), PROMPT))
    generated = {}
    for rows in counts:
        ids = prompts[:rows].to(device)

        def generate(ids: torch.Tensor = ids) -> Any:
            return model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW, min_new_tokens=NEW,
                pad_token_id=0, eos_token_id=None,
            )  # fmt: skip

        seconds, out = best(generate)
        generated[rows] = rows * NEW / seconds, out[:, PROMPT:].tolist()
    lm = CausalLM(model)
    for rows in counts:
        measure(name, lm, prompts[:rows].tolist(), generated[rows], profile=profile)


def measure(name: str, lm: CausalLM, prompts: list[list[int]], generated: tuple[float, Any], *, profile: bool) -> None:
    """One line."""
    rows = len(prompts)
    config = EngineConfig(max_sequences=rows, max_length=PROMPT + NEW, speculation=Speculation.fixed(0))
    engine = make_engine(lm, None, config)

    def ask() -> dict[str, list[int]]:
        requests = [Request(str(n), prompt, NEW) for n, prompt in enumerate(prompts)]
        return {done.request.id: list(done.token_ids) for done in engine.generate(requests)}

    ask()
    seconds, got = best(ask)
    speed, theirs = rows * NEW / seconds, generated[0]
    alike = sum(got[str(n)] == generated[1][n] for n in range(rows))
    graphs = len(lm.captured) if lm.captured else 0
    print(
        f"{name}, {rows} rows: generate {theirs:.0f}, ours {speed:.0f} tokens/s, {speed / theirs:.1f}x; {seconds / NEW * 1e3:.2f} ms a token and row, "
        f"{alike} of {rows} alike (random weights: near-ties), {graphs} graphs; {describe(engine)}",
        flush=True,
    )
    if profile:
        with torch.profiler.profile() as found:
            ask()
        print(found.key_averages().table(sort_by="self_device_time_total", row_limit=14, max_name_column_width=70))


if __name__ == "__main__":
    main()
