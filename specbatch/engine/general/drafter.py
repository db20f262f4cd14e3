"""What proposes tokens: the seam behind which a model, n-gram lookup or anything else drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.general.batch import Batch
from specbatch.engine.general.cache import SlotView
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.shared_prefill import prefill_shared
from specbatch.engine.request import AcceptanceRule
from specbatch.engine.sampling import choose_tokens


@dataclass(frozen=True, slots=True)
class Proposal:
    """The draft tokens of one round.

    tokens: int64 [batch, k]
    num_drafted: how many of them are drafts; the rest of the row is filler  # int64 [batch]
    probs: what each token was drawn from; None when every row is greedy or the rule does not ask  # float32 [batch, k, vocab]
    """

    tokens: Tensor
    num_drafted: Tensor
    probs: Tensor | None

    @staticmethod
    def empty(batch: Batch) -> Proposal:
        """A round without drafts (k = 0)."""
        tokens = torch.zeros(batch.size, 0, dtype=torch.int64, device=batch.device)
        return Proposal(tokens, torch.zeros(batch.size, dtype=torch.int64, device=batch.device), None)

    @staticmethod
    def given(drafts: Sequence[Sequence[int]], batch: Batch, rule: AcceptanceRule, vocab_size: int) -> Proposal:
        """Drafts that are there already, each for certain, some of each row."""
        counts = [len(row) for row in drafts]
        padded = [[*row, *[0] * (max(counts) - len(row))] for row in drafts]
        tokens = torch.tensor(padded, device=batch.device)
        by_rejection = rule == "rejection" and not batch.sampling.all_greedy
        probs = F.one_hot(tokens, vocab_size).to(torch.float32) if by_rejection else None
        return Proposal(tokens, torch.tensor(counts, device=batch.device), probs)


class Drafter:
    """What every drafter is to the runner; this one proposes nothing and keeps nothing: the target alone.

    State per slot follows the batch's: allocate, join, move. A round calls catch_up and propose where k > 0, and rollback.

    ragged: proposals may be shorter than k: the round then verifies only as many positions as were drafted
    learns: finished rows make its drafts better: learn() is given them
    target_layers: the target's layers whose inputs it drafts from: take_in() is given them after each of the target's forwards
    """

    ragged = True
    learns = False
    target_layers: tuple[int, ...] = ()

    def allocate(self, slots: int, max_positions: int) -> None:
        """Makes room for sequences."""

    def join(self, slot: int) -> None:
        """A new sequence has taken the slot."""

    def move(self, source: int, destination: int) -> None:
        """A sequence has moved to another slot."""

    def lags(self, batch: Batch) -> list[int]:
        """Tokens of each slot that catch_up() would take in."""
        return [0] * batch.size

    def catch_up(self, batch: Batch) -> None:
        """Takes in what was committed without it (a joining sequence's prompt, rounds at k = 0)."""

    def take_in(self, batch: Batch, view: SlotView, hidden: Tensor) -> None:
        """The target has run over positions whose next tokens are in the batch's history, as far as the sequences reach.

        Args:
            batch: of the sequences.
            view: its rows and positions; what lies beyond a sequence's length is to be written over later.
            hidden: inputs of target_layers, beside each other  # [n, tokens, len(target_layers) * hidden]
        """

    def propose(self, batch: Batch, k: int, rule: AcceptanceRule, vocab_size: int) -> Proposal:
        """Drafts k tokens a sequence."""
        del k, rule, vocab_size
        return Proposal.empty(batch)

    def rollback(self, batch: Batch) -> None:
        """A round is committed: forgets what lies at or beyond the sequences' new lengths. Called at k = 0, too."""

    def learn(self, batch: Batch, finished: Sequence[Sequence[int]]) -> None:
        """Rows have finished: the last tokens of their prompts, and their own."""

    def placement(self) -> dict[str, str]:
        """Where each parameter and buffer really is: its name -> device; empty without weights."""
        return {}


class ModelDrafter(Drafter):
    """Drafts autoregressively with a small causal LM.

    Invariant: slot i holds valid KV for the positions below `seen[i]`, and between rounds seen[i] <= the row's length.

    Args:
        model: that drafts.
        prefill_chunk: tokens in one prefill forward.
        replicas: the same model on other devices, which draft for groups of rows of their own where captured rounds run.
    """

    ragged = False

    def __init__(self, model: CausalLM, prefill_chunk: int = 512, replicas: Sequence[CausalLM] = ()) -> None:
        self.model = model
        self.replicas = tuple(replicas)
        self.prefill_chunk = prefill_chunk
        self.seen: list[int] = []

    def allocate(self, slots: int, max_positions: int) -> None:
        """Makes room for rows."""
        self.model.allocate(slots, max_positions)
        self.seen = [0] * slots

    def join(self, slot: int) -> None:
        """A new row has taken the slot: the drafter has seen nothing of it yet."""
        self.seen[slot] = 0

    def move(self, source: int, destination: int) -> None:
        """A row has moved to another slot."""
        assert self.model.cache is not None, "move before allocate"
        self.model.cache.move(source, destination)
        self.seen[destination] = self.seen[source]

    def lags(self, batch: Batch) -> list[int]:
        """Tokens of each slot that catch_up() would take in."""
        lags = [row.length - self.seen[i] for i, row in enumerate(batch.rows)]
        return [lag if lag > 1 else 0 for lag in lags]

    def catch_up(self, batch: Batch) -> None:
        """Takes in what the drafter has not seen, until no row lags by more than the one token that propose() takes in."""
        lagging = [i for i, row in enumerate(batch.rows) if row.length - self.seen[i] > 1]
        prefill_shared(self.model, batch, {i: self.seen[i] for i in lagging}, self.seen, self.prefill_chunk)
        for i in lagging:
            self.seen[i] = batch.rows[i].length

    def propose(self, batch: Batch, k: int, rule: AcceptanceRule, vocab_size: int) -> Proposal:
        """Drafts k tokens a row, one forward each.

        After a full acceptance the drafter has not seen its own last draft token: the first forward then takes two tokens.
        """
        assert k > 0, "nothing to propose"
        lags = [row.length - self.seen[i] for i, row in enumerate(batch.rows)]
        assert max(lags) <= 1, "catch_up() before propose()"
        window = 1 + max(lags)
        positions = batch.positions(window, start=1 - window)
        tokens = batch.tokens_at(positions)
        extent = batch.extent(k)
        # Under the coupled rule the drafter races the target's noise, to land on the same token as often as it can.
        purpose = Purpose.TOKEN if rule == "coupled" else Purpose.DRAFT
        drafts: list[Tensor] = []
        probs: list[Tensor] = []
        for j in range(k):
            view = SlotView(slice(0, batch.size), positions, extent)
            logits = fit_vocabulary(self.model.forward(tokens, view, last_only=True).to(batch.device), vocab_size)
            logits = batch.process(logits, torch.cat(drafts, 1) if drafts else tokens[:, :0], start=j)
            tokens, draft_probs = choose_tokens(
                logits, batch.sampling, batch.completion_positions(1, start=j), purpose, need_probs=rule == "rejection"
            )
            drafts.append(tokens)
            if draft_probs is not None:
                probs.append(draft_probs)
            positions = batch.positions(1, start=j + 1)
        for i, row in enumerate(batch.rows):
            self.seen[i] = row.length + k  # KV now reaches draft k - 1; rollback() cuts it to what was accepted
        num_drafted = torch.full((batch.size,), k, device=batch.device)
        return Proposal(torch.cat(drafts, 1), num_drafted, torch.cat(probs, 1) if probs else None)

    @property
    def models(self) -> tuple[CausalLM, ...]:
        """The model, and its replicas."""
        return (self.model, *self.replicas)

    def placement(self) -> dict[str, str]:
        """As the model's."""
        return self.model.placement()

    def rollback(self, batch: Batch) -> None:
        """Forgets rejected drafts: below the new length all drafts were accepted, their KV is the row's own."""
        for i, row in enumerate(batch.rows):
            self.seen[i] = min(self.seen[i], row.length)


def fit_vocabulary(logits: Tensor, vocab_size: int) -> Tensor:
    """Cuts or pads logits to the target's width: models of one family pad their vocabularies differently."""
    missing = vocab_size - logits.shape[-1]
    if missing > 0:
        return torch.nn.functional.pad(logits, (0, missing), value=-torch.inf)
    return logits[..., :vocab_size]
