"""What the tokens of a run cost: the hours of its GPUs, at a price that the user names."""

from __future__ import annotations

from dataclasses import dataclass

from specbatch.formatting import format_amount
from specbatch.results.summary import RunSummary

PRICE = "SPECBATCH_PRICE"  # in the environment of a run: what a GPU costs an hour

NO_GPU_HOURS = "not known: no GPU hours were counted"  # on a CPU, or by an earlier release


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """In the currency of the price.

    Args:
        price: of one GPU for an hour.
        gpu_hours: of all GPUs that the run held, of all shards and attempts, while it decoded.
        gpu_hours_before: the same while it loaded and warmed up.
        tokens: that it generated; those of prompts cost nothing by themselves.
    """

    price: float
    gpu_hours: float
    gpu_hours_before: float
    tokens: int

    @property
    def per_million(self) -> float:
        """Of a million generated tokens, decoding alone: what a longer run of the same kind comes close to."""
        return self.price * self.gpu_hours / self.tokens * 1e6

    @property
    def total(self) -> float:
        """All that was paid for: loading, warm-up and decoding."""
        return self.price * (self.gpu_hours + self.gpu_hours_before)

    @property
    def how(self) -> str:
        """What was counted, and what all came to."""
        return (
            f"{format_amount(self.gpu_hours)} GPU hours of decoding at {self.price:g}; "
            f"{format_amount(self.total)} in all, with loading and warm-up"
        )

    def __str__(self) -> str:
        return f"{format_amount(self.per_million)} per million tokens: {self.how}"


def cost_text(run: RunSummary) -> str:
    """The cost for people; empty without a price, and why it is not known where there is one."""
    if run.price is None or not run.completion_tokens:
        return ""
    return str(cost_of(run) or NO_GPU_HOURS)


def cost_of(run: RunSummary, price: float | None = None) -> Cost | None:
    """The cost at that price, or else at the one that the run was given; None without a price, GPUs or tokens."""
    price = run.price if price is None else price
    if price is None or not run.gpu_seconds or not run.completion_tokens:
        return None
    return Cost(
        price=price,
        gpu_hours=run.gpu_seconds / 3600,
        gpu_hours_before=run.gpu_seconds_before / 3600,
        tokens=run.completion_tokens,
    )
