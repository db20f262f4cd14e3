"""How likely counts and draws are under the distribution that they should come from: two tests of statistics."""

import numpy as np
import torch


def chi_squared(observed: np.ndarray, expected: np.ndarray, totals: int = 1) -> float:
    """Pearson's p-value of counts; cells below 5 expected are pooled.

    Args:
        observed: counts.
        expected: of the same shape.
        totals: sums of cells that are the same in both by construction: so many degrees of freedom fewer.
    """
    if observed[expected == 0].sum() > 0:
        return 0.0  # the impossible happened
    rare = expected < 5
    seen, hoped = observed[~rare], expected[~rare]
    if expected[rare].sum() >= 5:
        seen, hoped = np.append(seen, observed[rare].sum()), np.append(hoped, expected[rare].sum())
    hoped = hoped * seen.sum() / hoped.sum()
    statistic = ((seen - hoped) ** 2 / hoped).sum()
    halves = torch.tensor([(len(seen) - totals) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(halves[0], halves[1]))


def kolmogorov_smirnov(chances: torch.Tensor) -> float:
    """The p-value of draws, given each one's cumulative probability: these must be uniform. For a thousand draws or more.  # [n]"""
    ordered, count = chances.double().flatten().sort().values, chances.numel()
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    distance = torch.maximum(steps[1:] - ordered, ordered - steps[:-1]).max()
    terms = torch.arange(1, 101, dtype=torch.float64)
    signs = 1 - 2 * ((terms - 1) % 2)
    return float((2 * signs * torch.exp(-2 * count * (terms * distance) ** 2)).sum().clamp(0, 1))
