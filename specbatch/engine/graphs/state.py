"""What a lane knows of the rows being decoded: a line a slot, which a row keeps from joining to leaving."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.logits.option_lines import OptionLines
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.host_copies import upload
from specbatch.engine.queued_round import FIELDS
from specbatch.engine.sampling import RowSampling
from specbatch.engine.sequence import SequenceState
from specbatch.engine.timing import reach


class RowState:
    """Tensors by slot, of one lane. The last slot belongs to no row: it fills up buckets.

    history: tokens by position; beyond the row's last one, drafts and filler  # int64 [slots + 1, positions]
    lengths: position of each row's last token  # int64 [slots + 1]
    ends: position of the last token that it may have  # int64 [slots + 1]
    prompt_lengths, keys, top_k: int64 [slots + 1]; temperature, top_p: float32 [slots + 1]
    _integers, _reals: where the lines of one type lie together, for join to write at once
    rows: the slots of the rows in the batch, then the last slot  # int64 [slots]
    num_drafted: of each row, by place in the batch, where that varies  # int64 [slots]
    drafted: how many tokens of the round are drafted so far  # int64 [1]
    outcome: what the last round did, by place in the batch, see queued_round  # int64 [slots, ...]
    options: of the rows that ask for logits processors
    """

    def __init__(self, slots: int, max_positions: int, max_k: int, lane: Lane) -> None:
        self.slots = slots
        self.lane = lane
        self.device = device = lane.device
        self.max_k = max_k
        self._placed: dict[int, list[int]] = {}  # by group
        self._rows_of: dict[int, Tensor] = {}  # by group, what is placed, on the device
        self._group = -1  # whose rows `rows` has

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        self.history = zeros(slots + 1, max_positions + max_k + 2)
        width = -(-(slots + 1) // 4) * 4  # each begins at 16 bytes: for what does not, Triton compiles another kernel
        self._integers, self._reals = zeros(5, width), zeros(2, width, dtype=torch.float32)
        self.lengths, self.ends, self.prompt_lengths, self.keys, self.top_k = self._integers[:, : slots + 1]
        self.temperature, self.top_p = self._reals[:, : slots + 1]
        self.prompt_lengths.fill_(1)
        self.top_p.fill_(1)
        self.rows = zeros(slots) + slots
        self.num_drafted = zeros(slots)
        self.drafted = zeros(1)
        self.outcome = zeros(slots, FIELDS + max_k + 1)
        self.options = OptionLines(slots, lane, max_k + 1)

    def join(self, slots: Sequence[int], rows: Sequence[SequenceState]) -> None:
        """Writes the lines of joining rows."""
        device = self.device
        prompts = [len(row.request.prompt_token_ids) for row in rows]
        sampling = [row.request.sampling for row in rows]
        tokens = [[*row.request.prompt_token_ids, *row.token_ids] for row in rows]
        integers = [
            slots,
            [row.length for row in rows],
            [prompt + row.request.max_new_tokens - 1 for prompt, row in zip(prompts, rows, strict=True)],
            prompts,
            [row.request.random_key for row in rows],
            [param.top_k for param in sampling],
        ]
        reals = [[param.temperature for param in sampling], [param.top_p for param in sampling]]
        lengths = np.array([len(row) for row in tokens])
        before = lengths.cumsum() - lengths
        lines_begin = np.array(slots) * self.history.shape[1]
        # Not by PyTorch, which would wake all cores for it.
        places = torch.from_numpy(np.arange(lengths.sum()) + np.repeat(lines_begin - before, lengths))
        flat = array("q", chain.from_iterable(tokens))  # of a list, a tensor takes four times as long
        everything = torch.frombuffer(flat, dtype=torch.int64)

        def write() -> None:
            lines = upload(torch.tensor(integers), torch.int64, device)
            at = lines[0]
            self._integers[:, at] = lines[1:]
            self._reals[:, at] = upload(torch.tensor(reals), torch.float32, device)
            here = upload(everything, torch.int64, device)
            self.history.view(-1)[upload(places, torch.int64, device)] = here

        self.lane.run(write)
        self.options.join(slots, [row.request for row in rows])

    def stand(self, context: int, first: int) -> None:
        """The slots from the first on, the padding slot among them, have so many tokens, and have ended there."""
        self.lengths[first:] = self.ends[first:] = context

    def spread(self, vocab: int) -> None:
        """Gives all slots tokens of no meaning, each its own."""
        tokens = torch.randint(vocab, self.history.shape, generator=torch.Generator().manual_seed(0))
        self.lane.run(lambda: self.history.copy_(tokens))

    def place(self, slots: Sequence[int], group: int = 0) -> None:
        """Sets which rows the batch holds, and in which places.

        Args:
            slots: of the rows.
            group: what was placed for it last is not brought to the device again.
        """
        slots = list(slots)
        if self._placed.get(group) != slots:
            self._placed[group] = slots
            padded = [*slots, *[self.slots] * (self.slots - len(slots))]

            def bring() -> None:
                self._rows_of[group] = rows = upload(padded, torch.int64, self.device)
                self.rows.copy_(rows)

            self.lane.run(bring)
        elif group != self._group:
            self.lane.run(lambda: self.rows.copy_(self._rows_of[group]))
        self._group = group

    def bring_drafts(self, drafts: Sequence[Sequence[int]], k: int) -> None:
        """Drafts of the host's, up to k of each row of the batch, as a drafter would leave them, with how many there are in num_drafted."""
        lines = [[len(row), *row, *[0] * (k - len(row))] for row in drafts]

        def bring() -> None:
            here = upload(torch.tensor(lines), torch.int64, self.device)
            slots = self.rows[: len(lines)]
            places = self.lengths[slots][:, None] + torch.arange(1, k + 1, device=self.device)
            self.num_drafted[: len(lines)] = here[:, 0]
            self.history[slots[:, None], places] = here[:, 1:]

        self.lane.run(bring)

    def read_drafts(self, rows: int, count: int) -> Callable[[], list[list[int]]]:
        """Queues the copy to the host of the round's first drafts, of the first rows of the batch; what is returned waits for it."""
        if count == 0:
            return lambda: [[] for _ in range(rows)]
        found = torch.empty(rows, count, dtype=torch.int64, pin_memory=self.device.type == "cuda")

        def read() -> None:
            slots = self.rows[:rows, None]
            places = self.lengths[slots] + torch.arange(1, count + 1, device=self.device)
            found.copy_(self.history[slots, places], non_blocking=True)

        self.lane.run(read)
        copied = self.lane.mark()

        def wait() -> list[list[int]]:
            reach(copied)
            return found.tolist()

        return wait

    def sampling(self, rows: Tensor, mode: Mode) -> RowSampling:
        """The rows' parameters.  # rows int64 [B]"""
        return RowSampling(mode.params, self.temperature[rows], self.top_k[rows], self.top_p[rows], self.keys[rows])
