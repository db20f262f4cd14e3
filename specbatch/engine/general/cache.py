"""The KV state: one slot a row, each with its own length, in tensors of a fixed shape.

keys, values per layer: [slots, kv_heads, length, head_dim]. A slot holds one row's tokens at their positions. There is no
rollback and no copying: a position's KV is valid exactly when it lies below the row's length (kept by the batch), a
forward writes the positions it is given, and attention never looks past the query's own position, so rejected or stale
entries are unreachable until they are overwritten. The last position of every slot is a bin for padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from specbatch.engine.fp8.kv import as_kept
from specbatch.engine.general.slot_write import SlotWrite, kernels

_NO_LENGTH = 1 << 20  # tokens; beyond the reach of any scale that sets in by position


@dataclass(slots=True)
class SlotView:
    """Where one forward writes and what it may attend to.

    rows: the slots, as a range (a view, nothing is copied) or, for a prefill from position 0, any list of slots
    positions: of each token in its row; -1 marks padding  # int64 [n, tokens]
    extent: attend to positions below this; None: to this forward's own tokens only (a prefill from position 0)
    calls: filled with the mask of every layer's attention, where there is a list
    """

    rows: slice | Tensor
    positions: Tensor
    extent: int | None
    calls: list[Tensor] | None = None  # where the check at load collects the mask of every layer's attention
    _writes: dict[tuple[torch.device, int], Tensor] = field(default_factory=dict)
    _attends: bool = False
    _pending: SlotWrite | None = None

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Inside, attention follows a write, and may do it in its own kernel."""
        self._attends = True
        try:
            yield
            self._write_now()
        finally:
            self._attends = False

    def write(self, write: SlotWrite) -> tuple[Tensor, Tensor]:
        """Does a write, now or with the attention that comes next; what that is given."""
        self._write_now()
        self._pending = write
        if not self._attends:
            self._write_now()
        return write.seen

    def take_write(self, key: Tensor) -> SlotWrite | None:
        """The write of the keys that an attention is given, which it must do; whatever else is pending is done."""
        pending = self._pending
        if pending is not None and pending.seen[0] is key:
            self._pending = None
            return pending
        self._write_now()
        return None

    def _write_now(self) -> None:
        """Does what is pending."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.do()

    def mask(self, device: torch.device, sees: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """Who sees whom: True where the query may look.

        Args:
            device: of the mask.
            sees: transformers' description of a mask: of row, head, query's position and key's position.

        Returns:
            bool [n, 1, tokens, extent or tokens]
        """
        positions = self.positions.to(device)
        count, tokens = positions.shape
        queries = positions[:, None, :, None]
        if self.extent is None:
            keys = positions[:, None, None, :]
        else:
            keys = torch.arange(self.extent, device=device)[None, None, None, :]
        rows = torch.arange(count, device=device)[:, None, None, None]
        mask = sees(rows, torch.zeros_like(rows), queries, keys) & (keys >= 0) & (queries >= 0)
        # A padding query sees something: a row of all False would make NaN, and NaN in its KV would spread.
        if self.extent is None:
            mask |= torch.eye(tokens, dtype=torch.bool, device=device)
        else:
            mask[..., 0] |= queries[..., 0] < 0
        return mask

    def write_positions(self, device: torch.device, length: int) -> Tensor:
        """Where the tokens' KV goes; padding goes to the bin.  # int64 [n, tokens]"""
        key = (device, length)
        if key not in self._writes:
            positions = self.positions.to(device)
            self._writes[key] = torch.where(positions < 0, length - 1, positions)
        return self._writes[key]


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped here
    """One layer's slots; allocated on the device and in the shape of the first states it is given."""

    is_compileable = True

    def __init__(self, slots: int, length: int, *, fp8: bool) -> None:
        super().__init__()
        self.slots = slots
        self.length = length
        self.fp8 = fp8
        self.view: SlotView | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocates both tensors. Zeros, because 0 x NaN is NaN even where the mask gives no weight."""
        _, heads, _, key_dim = key_states.shape
        value_dim = value_states.shape[-1]
        self.keys = key_states.new_zeros(self.slots, heads, self.length, key_dim)
        self.values = value_states.new_zeros(self.slots, heads, self.length, value_dim)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Writes this forward's KV and returns what its queries attend to.

        Args:
            key_states: [n, kv_heads, tokens, head_dim]
            value_states: the same shape.

        Returns:
            keys and values [n, kv_heads, extent or tokens, head_dim]
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.fp8:
            key_states, value_states = as_kept(key_states), as_kept(value_states)
        view = self.view
        assert view is not None, "a forward without a view"
        positions = view.write_positions(key_states.device, self.length)
        if isinstance(view.rows, slice):
            keys, values = self.keys[view.rows], self.values[view.rows]
            if kernels(keys.device) is not None:
                seen = key_states, value_states
                if view.extent is not None:
                    seen = keys[:, :, : view.extent], values[:, :, : view.extent]
                return view.write(SlotWrite(keys, values, key_states, value_states, positions, seen))
            index = positions[:, None, :, None]
            keys.scatter_(2, index.expand_as(key_states), key_states)
            values.scatter_(2, index.expand_as(value_states), value_states)
        else:
            assert view.extent is None, "only a prefill from position 0 may name arbitrary slots"
            rows = view.rows.to(key_states.device)[:, None]
            self.keys[rows, :, positions] = key_states.transpose(1, 2)
            self.values[rows, :, positions] = value_states.transpose(1, 2)
        if view.extent is None:
            return key_states, value_states
        return keys[:, :, : view.extent], values[:, :, : view.extent]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Unused: masks come from the view."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Not the length of any row, each has its own: positions come from the view.

        Code that counts positions by it would be wrong far from the start alone, where a scale or a limit sets in. So it
        is absurd rather than small: the check at load sees who goes by it.
        """
        return _NO_LENGTH

    def get_max_length(self) -> int:
        """Positions a slot holds, the bin not counted."""
        return self.length - 1

    def get_max_cache_shape(self) -> int:
        """As get_max_length."""
        return self.length - 1


class SlotCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """The slots of every layer of one model.

    Args:
        num_layers: of the model.
        slots: rows at once.
        max_positions: the largest number of positions a row may fill, speculative tokens included.
        fp8: keys and values are rounded as FP8 keeps them. They stay in their dtype: no memory is saved.
    """

    def __init__(self, num_layers: int, slots: int, max_positions: int, *, fp8: bool = False) -> None:
        self.slots = slots
        self.max_positions = max_positions
        super().__init__(layers=[SlotLayer(slots, max_positions + 1, fp8=fp8) for _ in range(num_layers)])

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Unused: masks come from the view."""
        del layer_idx
        return 0

    def use(self, view: SlotView) -> None:
        """Sets the view of the next forward, for every layer."""
        for layer in self.layers:
            layer.view = view

    @torch.inference_mode()
    def move(self, source: int, destination: int) -> None:
        """Copies one slot over another, all layers of a device in one launch."""
        slots: dict[torch.device, list[Tensor]] = {}
        for layer in self.layers:
            if layer.is_initialized:
                slots.setdefault(layer.keys.device, []).extend((layer.keys, layer.values))
        for tensors in slots.values():
            torch._foreach_copy_([each[destination] for each in tensors], [each[source] for each in tensors])

    @torch.inference_mode()
    def copy_prefix(self, source: int, destination: int, positions: int) -> None:
        """Copies the first positions of one slot to another."""
        for layer in self.layers:
            layer.keys[destination, :, :positions] = layer.keys[source, :, :positions]
            layer.values[destination, :, :positions] = layer.values[source, :, :positions]

    @torch.inference_mode()
    def clear(self, slot: int) -> None:
        """Zeroes one slot: whatever a row of NaN left there must not reach the next row."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.keys[slot] = 0
                layer.values[slot] = 0
