"""Filling what rows begin with alike once: the others get copies of its KV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specbatch.engine.general.batch import Batch
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.prefill import prefill
from specbatch.engine.prefix import PAGE, prefix_keys
from specbatch.engine.sequence import SequenceState

_WORTH = {"cpu": PAGE}  # tokens saved that are worth one forward more
_WORTH_ELSEWHERE = 1024


@dataclass(frozen=True, slots=True)
class _Copy:
    """What a slot begins with: so many positions of another one, which is itself filled in an earlier wave."""

    source: int
    count: int
    wave: int


def prefill_shared(model: CausalLM, batch: Batch, starts: Mapping[int, int], filled: Sequence[int], chunk: int) -> int:
    """As prefill, but slots that begin like others take that from them, where that is worth the forwards that it takes more.

    Args:
        model: whose slots are filled.
        batch: holds the rows.
        starts: slot -> first position to fill.
        filled: of each slot, how many positions have KV already.
        chunk: tokens in one forward, at the most.

    Returns:
        tokens that were run
    """
    spans = {slot: start for slot, start in starts.items() if batch.rows[slot].length > start}
    copies = _copies(batch, spans, filled)
    waves = max((copy.wave for copy in copies.values()), default=0)
    saved = sum(copy.count for copy in copies.values())
    if saved < waves * _WORTH.get(model.input_device.type, _WORTH_ELSEWHERE):
        copies, waves, saved = {}, 0, 0
    for wave in range(waves + 1):
        now = {slot: copies[slot] for slot in copies if copies[slot].wave == wave}
        for slot, copy in now.items():
            assert model.cache is not None, "prefill before allocate"
            model.cache.copy_prefix(copy.source, slot, copy.count)
        if wave:
            prefill(model, batch, {slot: copy.count for slot, copy in now.items()}, chunk)
        else:
            prefill(model, batch, {slot: start for slot, start in spans.items() if slot not in copies}, chunk)
    return sum(batch.rows[slot].length - start for slot, start in spans.items()) - saved


def _copies(batch: Batch, spans: Mapping[int, int], filled: Sequence[int]) -> dict[int, _Copy]:
    """Of the slots that are filled from their first position: what they may take from whom."""
    if not batch.shares_prefixes or 0 not in spans.values():
        return {}
    owners: dict[bytes, int] = {}  # of each prefix, the first slot that has or will have it
    for slot, row in enumerate(batch.rows):
        if slot not in spans:
            owned = filled[slot] // PAGE
            owners |= {key: slot for key in _keys(row)[:owned] if key not in owners}
    copies: dict[int, _Copy] = {}
    for slot, start in spans.items():
        if start:
            continue
        keys = _keys(batch.rows[slot])
        known = next((place for place, key in enumerate(keys) if key not in owners), len(keys))
        if known:
            source = owners[keys[known - 1]]
            before = copies[source].wave if source in copies else 0
            copies[slot] = _Copy(source, known * PAGE, before + 1)
        owners |= dict.fromkeys(keys[known:], slot)
    return copies


def _keys(row: SequenceState) -> Sequence[bytes]:
    if row.page_keys is None:
        row.page_keys = prefix_keys([*row.request.prompt_token_ids, *row.token_ids], PAGE)
    return row.page_keys
