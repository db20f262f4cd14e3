"""KV for rows: how many may join, which pages they share, what a round may write."""

from __future__ import annotations

from collections.abc import Sequence

from specbatch.engine.config import EngineConfig
from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.graphs.kv.pool import PagePool, pages_for
from specbatch.engine.graphs.pair import CapturedPair
from specbatch.engine.prefix import prefix_keys
from specbatch.engine.sequence import SequenceState


class KVManager:
    """The pages of target and drafter as rows need them.

    sharing: rows that begin with the same tokens share pages

    Args:
        pair: whose pages they are.
        config: for the longest row, and whether to share.
    """

    def __init__(self, pair: CapturedPair, config: EngineConfig) -> None:
        self.pair = pair
        self.config = config
        self.sharing = config.prefix_caching

    def room(self, sequences: Sequence[SequenceState], *, drafting: bool) -> int:
        """Pages that sequences may take that join, one left for each that runs where it has not all that it will need.

        Of the target; and while drafts pay of a drafter that has pages for all slots, too. One with fewer was not meant for all
        of them: no row is to wait for it.
        """
        running, target = len(sequences), self.pair.target_pool
        room = target.free - (0 if target.ample else running)
        drafter, replicas = self.pair.drafter, len(self.pair.drafting_states)
        enough = min(target.pages, self.pair.slots * -(-pages_for(self.config.max_positions) // 2)) // replicas
        limited = [pool for pool in drafter.pools if not pool.ample and pool.pages >= enough]
        for pool in limited if drafting else ():
            its = [s for s in sequences if pool in drafter.pools_of(s.group)]
            missing = sum(pool.missing(s.slot, self._positions_to_join(s, pool)) for s in its)
            room = min(room, replicas * (pool.free - missing - len(its)))
        return room

    def pages_to_join(self, sequence: SequenceState) -> int:
        """Pages of the target that a joining sequence needs at once, beside those that running ones have already."""
        pool = self.pair.target_pool
        return pages_for(self._positions_to_join(sequence, pool)) - pool.held_of(self._keys(sequence))

    def tokens_to_join(self, sequence: SequenceState) -> int:
        """Tokens that a joining sequence must compute, as far as that is known before others join."""
        return sequence.length - PAGE * self.pair.target_pool.found(self._keys(sequence))

    def join(self, slots: Sequence[int], sequences: Sequence[SequenceState]) -> list[int]:
        """Gives joining sequences pages; returns where each begins that the target has to fill, in this order."""
        pair, target = self.pair, self.pair.target_pool
        for slot, sequence in zip(slots, sequences, strict=True):
            keys = self._keys(sequence)
            for pool in pair.pools:
                pool.join(slot, keys)
                if pool.ample or pool is target:
                    pool.grow(slot, self._positions_to_join(sequence, pool))
        starts = []
        for slot in slots:
            starts.append(target.filled(slot))
            target.fill(slot)
            pair.drafter.join(slot, starts[-1])
        target.upload()
        return starts

    def reserve(self, sequences: Sequence[SequenceState], k: int) -> bool:
        """Gives sequences the pages of the target that a round of k drafts may write; False where there are not enough."""
        return _reserve(self.pair.target_pool, sequences, k)

    def reserve_drafter(self, sequences: Sequence[SequenceState], k: int) -> bool:
        """As reserve, of the drafter's pages."""
        return all(_reserve(pool, sequences, k) for pool in self.pair.drafter.pools_of(sequences[0].group))

    def evict(self, slot: int, *, poisoned: bool) -> None:
        """Takes a slot's pages back. What lies in free pages is never read, NaN or not; those of a poisoned row are not to be found, either."""
        if poisoned:
            for pool in self.pair.pools:
                pool.forget_all()
        self.pair.evict(slot)

    def _keys(self, sequence: SequenceState) -> Sequence[bytes]:
        if not self.sharing or sequence.scores_prompt:
            return ()
        if sequence.page_keys is None:
            tokens = [*sequence.request.prompt_token_ids, *sequence.token_ids]
            sequence.page_keys = prefix_keys(tokens, PAGE, lookahead=self.pair.drafter.lookahead)
        return sequence.page_keys

    def _positions_to_join(self, sequence: SequenceState, pool: PagePool) -> int:
        """What it has, and a round's; or all that it may come to have."""
        new = sequence.remaining if pool.ample else 0
        return sequence.length + new + self.config.max_k + 2


def _reserve(pool: PagePool, sequences: Sequence[SequenceState], k: int) -> bool:
    if pool.sliding is not None:
        pool.sliding.advance((s.slot, s.length, s.reach(k)) for s in sequences)
    return pool.ample or pool.reserve([(s.slot, s.reach(k)) for s in sequences])
