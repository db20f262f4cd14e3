"""Drafting with an EAGLE-3 head: its KV grows with the target's own forwards, so it never lags behind.

The KV of a position needs no attention, only the target's states there and the next token: it is written at once for a prefill, and
for a round when it is known which tokens stand. What a round drafted from the head's own output is thereby written over.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.general.attention import over, slot_attention
from specbatch.engine.general.batch import Batch
from specbatch.engine.general.cache import SlotCache, SlotView
from specbatch.engine.general.drafter import Drafter, Proposal, fit_vocabulary
from specbatch.engine.general.eagle3_head import Eagle3Head
from specbatch.engine.request import AcceptanceRule
from specbatch.engine.sampling import choose_tokens


class Eagle3Drafter(Drafter):
    """Drafts token by token with a head.

    Invariant: between rounds slot i holds KV of the positions below the row's length, from the target's states, and the joined states
    of the position before the last token, which the first draft goes on from.

    Args:
        head: on its device.
        target_layers: the target's layers whose inputs it reads.
    """

    ragged = False

    def __init__(self, head: Eagle3Head, target_layers: tuple[int, ...]) -> None:
        self.head = head.eval()
        self.target_layers = target_layers

    def allocate(self, slots: int, max_positions: int) -> None:
        """Makes room for rows."""
        head = self.head
        self.cache = SlotCache(1, slots, max_positions)
        self.states = torch.zeros(slots, head.config.hidden_size, dtype=head.dtype, device=head.device)

    @torch.inference_mode()
    def join(self, slot: int) -> None:
        """A new row has taken the slot: its prefill is taken in as it runs."""
        self.states[slot] = 0

    @torch.inference_mode()
    def move(self, source: int, destination: int) -> None:
        """A row has moved to another slot."""
        self.cache.move(source, destination)
        self.states[destination] = self.states[source]

    @torch.inference_mode()
    def take_in(self, batch: Batch, view: SlotView, hidden: Tensor) -> None:
        """Writes the KV of positions that the target has run over, whose next tokens are known."""
        head, device = self.head, self.head.device
        states = head.join(hidden.to(device, head.dtype))
        rows = view.rows if isinstance(view.rows, slice) else view.rows.to(device)
        positions = view.positions.to(device)
        following = (view.positions + 1).clamp(0, batch.history.shape[1] - 1)
        tokens = batch.history[view.rows].gather(1, following).to(device)
        _, keys, values, _ = head.qkv(tokens, states, positions)
        write = SlotView(rows, positions, None)
        self.cache.use(write)
        self.cache.layers[0].update(keys, values)
        last = positions == (batch.lengths[view.rows].to(device) - 1)[:, None]
        here = states[torch.arange(len(last), device=device), last.long().argmax(1)]
        self.states[rows] = torch.where(last.any(1)[:, None], here, self.states[rows])

    @torch.inference_mode()
    def propose(self, batch: Batch, k: int, rule: AcceptanceRule, vocab_size: int) -> Proposal:
        """Drafts k tokens a row, one forward of the head each."""
        assert k > 0, "nothing to propose"
        tokens, states = batch.tokens_at(batch.positions(1)), self.states[: batch.size, None]
        extent = batch.extent(k)
        # Under the coupled rule drafts are drawn with the target's noise, see ModelDrafter.
        purpose = Purpose.TOKEN if rule == "coupled" else Purpose.DRAFT
        drafts: list[Tensor] = []
        probs: list[Tensor] = []
        for j in range(k):
            view = SlotView(slice(0, batch.size), batch.positions(1, start=j - 1).to(self.head.device), extent)
            states, logits = self._forward(tokens, states, view)
            logits = fit_vocabulary(self.head.of_target(logits, vocab_size).to(batch.device), vocab_size)
            logits = batch.process(logits, torch.cat(drafts, 1) if drafts else tokens[:, :0], start=j)
            tokens, draft_probs = choose_tokens(
                logits,
                batch.sampling,
                batch.completion_positions(1, start=j),
                purpose,
                need_probs=rule == "rejection",
            )
            drafts.append(tokens)
            if draft_probs is not None:
                probs.append(draft_probs)
        num_drafted = torch.full((batch.size,), k, device=batch.device)
        return Proposal(torch.cat(drafts, 1), num_drafted, torch.cat(probs, 1) if probs else None)

    def _forward(self, tokens: Tensor, states: Tensor, view: SlotView) -> tuple[Tensor, Tensor]:
        """States and logits after the tokens, whose positions are the view's, and see all KV up to there."""
        head, config = self.head, self.head.config
        query, key, value, residual = head.qkv(tokens.to(head.device), states, view.positions)
        self.cache.use(view)
        keys, values = self.cache.layers[0].update(key, value)
        mask = view.mask(head.device, lambda _row, _head, query, key: key <= query)
        with over(view):
            attended, _ = slot_attention(head, query, keys, values, mask, config.head_dim**-0.5)
        states = head.finish(attended.flatten(2), residual)
        return states, head.logits(states)

    def placement(self) -> dict[str, str]:
        """Where each of the head's parameters and buffers is."""
        tensors = [*self.head.named_parameters(), *self.head.named_buffers()]
        return {name: str(tensor.device) for name, tensor in tensors}
