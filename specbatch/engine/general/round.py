"""One round of speculative decoding, as in the papers: draft, verify, accept."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from specbatch.engine.general.batch import Batch
from specbatch.engine.general.cache import SlotView
from specbatch.engine.general.drafter import Drafter, Proposal
from specbatch.engine.general.model import CausalLM
from specbatch.engine.host_copies import queue_copy_to_host
from specbatch.engine.logits.logprobs import Logprobs
from specbatch.engine.queued_round import FIELDS, FINITE
from specbatch.engine.request import AcceptanceRule
from specbatch.engine.rounds import RoundOutput
from specbatch.engine.sampling import choose_tokens, distribution
from specbatch.engine.speculation.acceptance import Acceptance, accept_by_rejection, accept_coupled


def run_round(
    target: CausalLM,
    drafter: Drafter,
    batch: Batch,
    k: int,
    rule: AcceptanceRule,
    drafts: Sequence[Sequence[int]] | None = None,
) -> RoundOutput:
    """Moves every row on by its accepted + 1 tokens; batch.commit is the last step that can fail. Row i of the output in slot i.

    Args:
        target: the model whose output counts.
        drafter: drafts k tokens a row, unless there are drafts.
        batch: of the rows.
        k: of the round.
        rule: of acceptance.
        drafts: of each row, in place of the drafter's.
    """
    began = time.perf_counter()
    if drafts is None:
        proposal = draft(drafter, batch, k, rule, target.vocab_size)
    else:
        proposal = Proposal.given(drafts, batch, rule, target.vocab_size)
    drafted = time.perf_counter()
    raw = verify(target, batch, proposal)
    logits = batch.process(raw, proposal.tokens, start=0)
    verified = time.perf_counter()
    acceptance = accept(logits, batch, proposal, rule)
    finite = logits.amax(-1).isfinite().long().cumprod(-1).sum(-1)
    logprobs = Logprobs.of(raw, acceptance.tokens) if any(most is not None for most in batch.top_logprobs) else None
    forced = batch.forced
    batch.commit(acceptance)
    if drafter.target_layers:
        positions = batch.positions(proposal.tokens.shape[1] + 1) - acceptance.accepted[:, None] - 1
        drafter.take_in(batch, SlotView(slice(0, batch.size), positions, None), target.tapped())
    accepted = acceptance.accepted.tolist()  # the host waits for the device here, once a round
    tokens = [row[: a + 1] for row, a in zip(acceptance.tokens.tolist(), accepted, strict=True)]
    return RoundOutput(
        drafted=proposal.num_drafted.clamp(max=proposal.tokens.shape[1]).tolist(),
        accepted=accepted,
        finite=finite.tolist(),
        tokens=tokens,
        draft_seconds=drafted - began,
        verify_seconds=verified - drafted,
        accept_seconds=time.perf_counter() - verified,
        logprobs=None if logprobs is None else logprobs.of_tokens(tokens, batch.top_logprobs),
        forced=forced,
    )


def queue_round(target: CausalLM, batch: Batch) -> Tensor:
    """As run_round without drafts, but no token is waited for: rows go on from those on the device.

    Returns:
        the outcome, see QueuedRound: on the host once the device has come past this round  # int64 [rows, FIELDS + 1]
    """
    rows, positions = slice(0, batch.size), batch.lengths[: batch.size, None]
    tokens = batch.history[rows].gather(1, positions)
    logits = target.forward(tokens, SlotView(rows, positions, batch.extent(0))).to(batch.device)
    logits = batch.process(logits, tokens[:, :0], start=0)
    if batch.sampling.all_greedy:
        chosen = logits.argmax(-1)
        greatest = logits.gather(-1, chosen[..., None])[..., 0]  # NaN, too, where there is any
    else:
        chosen, _ = choose_tokens(logits, batch.sampling, batch.completion_positions(1))
        greatest = logits.amax(-1)
    outcome = batch.outcome[rows]
    outcome[:, FINITE] = (greatest - greatest == 0)[:, 0]
    outcome[:, FIELDS:] = chosen
    batch.advance(chosen)
    return queue_copy_to_host(outcome)


def draft(drafter: Drafter, batch: Batch, k: int, rule: AcceptanceRule, vocab_size: int) -> Proposal:
    """k draft tokens a row; a ragged proposal is cut to its longest row, so that the target verifies no filler."""
    if k == 0:
        return Proposal.empty(batch)
    proposal = drafter.propose(batch, k, rule, vocab_size)
    if not drafter.ragged:
        return proposal
    if any(forced := [list(row.request.grammar.forced(k)) if row.request.grammar else [] for row in batch.rows]):
        found = zip(proposal.tokens.tolist(), proposal.num_drafted.tolist(), strict=True)
        drafts = [tokens[:count] for tokens, count in found]  # masks are not asked for them: what is forced comes first
        merged = [own if own[: len(only)] == only else only for own, only in zip(drafts, forced, strict=True)]
        return Proposal.given(merged, batch, rule, vocab_size)
    width = int(proposal.num_drafted.max())
    probs = proposal.probs[:, :width] if proposal.probs is not None else None
    return Proposal(proposal.tokens[:, :width], proposal.num_drafted, probs)


def verify(target: CausalLM, batch: Batch, proposal: Proposal) -> Tensor:
    """One target forward over each row's last token and its drafts.  # [batch, k + 1, vocab]"""
    k = proposal.tokens.shape[1]
    positions = batch.positions(k + 1)
    tokens = torch.cat([batch.tokens_at(positions[:, :1]), proposal.tokens], dim=1)
    return target.forward(tokens, SlotView(slice(0, batch.size), positions, batch.extent(k))).to(batch.device)


def accept(logits: Tensor, batch: Batch, proposal: Proposal, rule: AcceptanceRule) -> Acceptance:
    """Which drafts stand, by the rule; greedy rows go by the target's most likely token under either.

    Args:
        logits: the target's  # [batch, k + 1, vocab]
        batch: for the rows' sampling parameters and positions.
        proposal: of this round.
        rule: coupled or rejection.
    """
    positions = batch.completion_positions(logits.shape[1])
    if rule == "coupled" or batch.sampling.all_greedy:
        target_tokens, _ = choose_tokens(logits, batch.sampling, positions)
        return accept_coupled(proposal.tokens, proposal.num_drafted, target_tokens)
    target_probs = distribution(logits, batch.sampling).dense(logits.shape[-1])
    draft_probs = proposal.probs if proposal.probs is not None else target_probs[:, :0]
    return accept_by_rejection(
        proposal.tokens, proposal.num_drafted, draft_probs, target_probs, batch.sampling, positions
    )
