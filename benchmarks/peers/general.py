"""The general path, whole forwards as CUDA graphs, beside transformers' generate: shapes of GPT-2 XL and OPT 1.3B with random weights, one GPU.

    python -m benchmarks.peers.general [--models gpt2 opt] [--rows 1 32] [--profile]

128 tokens behind prompts of 128, greedy, prefill of both sides included; both are warm: the better of the second and the third time of each count.
A line also splits the time of a round: the host's, to launch it and to take in what the last one gave, and how long it then waits for the device.
`--profile` lists the kernels.
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
from specbatch.engine.engine import Engine
from specbatch.engine.general.model import CausalLM
from specbatch.engine.make_engine import describe, make_engine
from specbatch.engine.request import Request
from specbatch.engine.speculation.depth import Speculation

PROMPT, NEW = 128, 128
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
    split = split_of(engine, ask)
    speed, theirs = rows * NEW / seconds, generated[0]
    alike = sum(got[str(n)] == generated[1][n] for n in range(rows))
    graphs = len(lm.captured) if lm.captured else 0
    print(
        f"{name}, {rows} rows: generate {theirs:.0f}, ours {speed:.0f} tokens/s, {speed / theirs:.1f}x; {seconds / NEW * 1e3:.2f} ms a token and row, "
        f"{alike} of {rows} alike (random weights: near-ties), {graphs} graphs; {split}; {describe(engine)}",
        flush=True,
    )
    if profile:
        with torch.profiler.profile() as found:
            ask()
        print(found.key_averages().table(sort_by="self_device_time_total", row_limit=14, max_name_column_width=70))


def split_of(engine: Engine, ask: Callable[[], Any]) -> str:
    """Where the time of another run goes."""
    stats, launch, spent = engine.stats, engine.runner.launch, {"launch": 0.0, "wait": 0.0}
    phases, rounds = dict(stats.seconds), stats.rounds

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        launched = launch(*arguments)
        spent["launch"] += time.perf_counter() - start
        return Waited(launched, spent)

    engine.runner.launch = timed  # type: ignore[method-assign]
    start = time.perf_counter()
    ask()
    seconds = time.perf_counter() - start
    engine.runner.launch = launch  # type: ignore[method-assign]
    rounds = stats.rounds - rounds
    device = {phase: stats.seconds[phase] - phases[phase] for phase in ("prefill", "verify")}
    each = {
        **spent, "else on the host": seconds - sum(spent.values()), "of the device: prefill": device["prefill"], "round": device["verify"]
    }  # fmt: skip
    return "ms a round: " + ", ".join(f"{name} {value / rounds * 1e3:.2f}" for name, value in each.items())


class Waited:
    """A round in flight, whose wait is timed."""

    def __init__(self, launched: Any, spent: dict[str, float]) -> None:
        self._launched, self._spent = launched, spent

    def wait(self) -> Any:
        """What it did."""
        start = time.perf_counter()
        output = self._launched.wait()
        self._spent["wait"] += time.perf_counter() - start
        return output


if __name__ == "__main__":
    main()
