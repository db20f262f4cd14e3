"""A language model that is a table: the next token's logits depend on the last token alone.

It takes the place of a CausalLM in the real engine, so that the distribution of what the engine emits can be held against
exact probabilities, with tens of thousands of samples in seconds.
"""

from types import SimpleNamespace

import numpy as np
import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.make_engine import general_engine
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sampling import RowSampling, distribution
from specbatch.engine.speculation.depth import Speculation
from tests.engine.goodness import chi_squared


class TabularLM:
    """Logits = table[last token]."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table
        self.vocab_size = table.shape[1]
        self.input_device = torch.device("cpu")
        self.captured = None
        self.cache = SimpleNamespace(move=lambda *_: None, clear=lambda *_: None)

    def limit_rows(self, max_length):
        pass

    def tap(self, layers):
        pass

    def allocate(self, slots, max_positions):
        pass

    def capture_forwards(self, record=None, product=None):
        pass

    def fill(self, token_ids, view):
        pass

    def forward(self, token_ids, view, *, last_only=False):
        return self.table[token_ids[:, -1:] if last_only else token_ids]


def tables(vocab: int = 6, seed: int = 0, disjoint: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a target and of a drafter that agrees with it by halves; or one that it never agrees with."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(vocab, vocab, generator=generator) * 1.5
    drafter = target + torch.randn(vocab, vocab, generator=generator)
    if disjoint:
        half = torch.arange(vocab) < vocab // 2
        target = target.masked_fill(half, -1e9)
        drafter = drafter.masked_fill(~half, -1e9)
    return target, drafter


def sample(target, drafter, sampling: list[SamplingParams], count: int, *, k: int, new_tokens: int, rule: str):
    """`count` rows for each of the parameters, decoded together; per parameter the emitted tokens [count, new_tokens]."""
    config = EngineConfig(1024, 64, Speculation.fixed(k), acceptance_rule=rule)
    engine = general_engine(TabularLM(target), ModelDrafter(TabularLM(drafter)), config)
    requests = (
        Request(f"{i}-{j}", [0, j], new_tokens, sampling=params, seed=7)
        for i in range(count)
        for j, params in enumerate(sampling)
    )
    tokens = [[] for _ in sampling]
    for completion in engine.generate(requests):
        tokens[int(completion.request.id.split("-")[1])].append(list(completion.token_ids))
    return [np.array(rows) for rows in tokens], engine.stats


def exact_joint(table: torch.Tensor, params: SamplingParams, length: int) -> np.ndarray:
    """Probability of every sequence of `length` tokens after each token.  # [vocab] * (1 + length)"""
    row = RowSampling.of([Request("", [0], 1, sampling=params)], torch.device("cpu"))
    joint = step = distribution(table[None], row).dense(len(table))[0].double().numpy()  # [vocab, vocab]
    for _ in range(length - 1):
        joint = joint[..., None] * step
    return joint


def p_value(tokens: np.ndarray, start: int, joint: np.ndarray) -> float:
    """Chi-squared p-value of rows that began after `start`, against the exact probabilities of `exact_joint`.

    A row of the table is a Markov chain: each stretch of `length` tokens is one sample of the joint after the token before it.
    """
    length, vocab = joint.ndim - 1, len(joint)
    rows = np.concatenate([np.full((len(tokens), 1), start), tokens], 1)
    stretches = np.lib.stride_tricks.sliding_window_view(rows, length + 1, 1)[:, ::length].reshape(-1, length + 1)
    observed = np.zeros(joint.shape)
    np.add.at(observed, tuple(stretches.T), 1)
    after = observed.reshape(vocab, -1).sum(1)
    expected = joint * after.reshape(-1, *[1] * length)
    return chi_squared(observed, expected, totals=np.count_nonzero(after))
