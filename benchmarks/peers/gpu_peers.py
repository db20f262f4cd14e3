"""transformers on the rows of the GPU benchmark: generate on static batches, and assisted decoding, which takes one row only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.inputs.synthetic import Order
from benchmarks.inputs.workloads import Rows
from benchmarks.peers.contestants import Outcome, Workload, transformers_generate

_NEW = 32  # tokens a row: it is slow
_ASSISTED_K = (4, 8)


def transformers_table(target: Any, drafter: Any, order: Order, works: Sequence[Rows]) -> list[dict[str, Any]]:
    """Prints and returns a line for each; the models must not be wrapped in a CausalLM yet."""
    lines: list[dict[str, Any]] = []
    print(f"\n| transformers, {_NEW} new tokens | rows | tokens/s | match |\n|---|---|---|---|")
    for rows in works:
        prompts = rows.prompts[: rows.at_once]
        right = [order.expected(prompt, _NEW) for prompt in prompts]
        runs = {"generate": transformers_generate(target)}
        if len(prompts) == 1 and drafter is not None:
            runs |= {f"assisted, k = {k}": _assisted(target, drafter, k) for k in _ASSISTED_K}
        for name, run in runs.items():
            for new in (2, _NEW):  # the first warms up
                outcome = run(Workload(prompts, new, frozenset(), len(prompts), rows.max_length))
            match = sum(a == b for a, b in zip(outcome.tokens, right, strict=True)) / len(right)
            print(f"| {name} | {len(prompts)} | {outcome.tokens_per_second:,.1f} | {match:.3f} |", flush=True)
            speed = outcome.tokens_per_second
            lines.append({"name": name, "rows": len(prompts), "tokens_per_second": speed, "match": match})
    return lines


def _assisted(target: Any, drafter: Any, k: int) -> Callable[[Workload], Outcome]:
    """Assisted decoding that drafts k tokens each time, however sure the drafter is."""

    def run(work: Workload) -> Outcome:
        settings = drafter.generation_config
        settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = k, "constant"
        settings.assistant_confidence_threshold = 0.0
        return transformers_generate(target, assistant_model=drafter)(work)

    return run
