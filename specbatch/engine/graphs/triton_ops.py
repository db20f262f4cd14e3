"""The operations of a packed decoder as Triton kernels, or as PyTorch's where those are as fast: many tokens, odd dtypes."""

from __future__ import annotations

from torch import Tensor

from specbatch.engine.graphs.cascade.kernel import attend_cascade
from specbatch.engine.graphs.cascade.tiles import PrefixTiles
from specbatch.engine.graphs.describe.description import PLAIN, SILU, Activation, AttentionKind
from specbatch.engine.graphs.describe.operations import Normed
from specbatch.engine.graphs.describe.triton_operations import knows, normed
from specbatch.engine.graphs.experts.triton_operations import TritonExperts
from specbatch.engine.graphs.kernels import (
    attention,
    bookkeeping,
    elementwise,
    prefill_attention,
    rope_attention,
)
from specbatch.engine.graphs.kernels.linears import linear, wgmma
from specbatch.engine.graphs.kernels.linears.linear_dense import wide
from specbatch.engine.graphs.kernels.linears.linear_limits import AHEAD, few, folds
from specbatch.engine.graphs.kernels.token_choice import TritonTokenChoice
from specbatch.engine.graphs.kv.paging import Pages, Tiles
from specbatch.engine.graphs.reference import Ahead
from specbatch.engine.quantization.weight import Weight, dense


class TritonOps(TritonExperts, TritonTokenChoice):
    """TorchOps on a GPU, or in Triton's interpreter."""

    def next_tokens(
        self, history: Tensor, lengths: Tensor, rows: Tensor, n: int, back: int, drafted: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As in TorchOps."""
        return bookkeeping.next_tokens(history, lengths, rows, n, back, drafted)

    def keep_drafts(
        self, history: Tensor, slots: Tensor, positions: Tensor, drafts: Tensor, drafted: Tensor, *, anew: bool
    ) -> None:
        """As in TorchOps."""
        bookkeeping.keep_drafts(history, slots, positions, drafts, drafted, anew=anew)

    def commit_coupled(
        self,
        history: Tensor,
        lengths: Tensor,
        ends: Tensor,
        slots: Tensor,
        tokens: Tensor,
        finite: Tensor,
        num_drafted: Tensor | None,
        outcome: Tensor,
    ) -> None:
        """As in TorchOps."""
        bookkeeping.commit_coupled(history, lengths, ends, slots, tokens, finite, num_drafted, outcome)

    def embed(self, tokens: Tensor, weight: Tensor) -> Tensor:
        """As in TorchOps."""
        return bookkeeping.embed(tokens, weight)

    def linear(self, x: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
        """The skinny kernel for few tokens, else cuBLAS."""
        if wgmma.takes(x, weight):
            return wgmma.multiplied(x, weight, bias, linear.BIAS)[0]
        if few(x, weight):
            return linear.linear(x, weight, bias)
        return super().linear(x, wide(weight, x), bias)

    def norm_linear(
        self,
        x: Tensor,
        norm: Tensor,
        eps: float,
        weight: Weight,
        bias: Tensor | None = None,
        ahead: Ahead | Normed | None = None,
        following: Weight | None = None,
    ) -> Tensor:
        """The norm folded in for few tokens, or where it is there already; in a kernel of its own for more."""
        if isinstance(ahead, Normed):
            return self.linear(ahead.x, weight, bias)
        if ahead is not None and wgmma.takes(ahead.scaled, weight):
            return wgmma.multiplied(ahead.scaled, weight, bias, linear.BIAS, squares=ahead.squares, eps=eps)[0]
        if ahead is not None:
            return linear.ahead_linear(*ahead, eps, weight, bias, following=following)
        if folds(x, weight) and normed(x, norm):
            return linear.norm_linear(x, norm, eps, weight, bias)
        return self.linear(self.rms_norm(x, norm, eps), weight, bias)

    def linear_add(self, x: Tensor, weight: Weight, residual: Tensor) -> Tensor:
        """The skinny kernel for few tokens, else cuBLAS, which adds in place: elsewhere PyTorch would copy the residual first."""
        if residual.is_contiguous() and residual.dtype == x.dtype:
            if wgmma.takes(x, weight):
                return wgmma.multiplied(x, weight, residual, linear.RESIDUAL)[0]
            if few(x, weight):
                return linear.linear_add(x, weight, residual)
        return residual.addmm_(x, dense(wide(weight, x), x.dtype).t())

    def linear_add_ahead(
        self, x: Tensor, weight: Weight, residual: Tensor, norm: Tensor, following: Weight
    ) -> tuple[Tensor, Ahead | None]:
        """By the skinny kernels, unless the linear after the norm folds it in."""
        same = residual.dtype == x.dtype and residual.is_contiguous() and normed(x, norm)
        if same and wgmma.takes(x, weight) and wgmma.follows(residual, following):
            out, *handed = wgmma.multiplied(x, weight, residual, linear.RESIDUAL, next_norm=norm)
            return out, Ahead(*handed)
        skinny = (
            not folds(residual, following)
            and few(x, weight)
            and len(x) <= AHEAD[x.element_size()]
            and normed(x, norm)
            and residual.dtype == x.dtype
        )
        if skinny and residual.is_contiguous() and following.is_contiguous():
            out, *ahead = linear.linear_add_ahead(x, weight, residual, norm, following=following)
            return out, Ahead(*ahead)
        return self.linear_add(x, weight, residual), None

    def norm_gated(
        self,
        x: Tensor,
        norm: Tensor | None,
        eps: float,
        gate_up: Weight,
        ahead: Ahead | Normed | None = None,
        following: Weight | None = None,
        activation: Activation = SILU,
    ) -> Tensor:
        """All in one for few tokens; above that the norm, then the gate in a kernel of its own."""
        if isinstance(ahead, Normed):
            x, norm = ahead.x, None
        elif ahead is not None and wgmma.takes(ahead.scaled, gate_up, gated=True, activation=activation):
            return wgmma.multiplied(ahead.scaled, gate_up, gated=True, squares=ahead.squares, eps=eps)[0]
        elif ahead is not None:
            return linear.ahead_gated(*ahead, eps, gate_up, activation, following=following)
        skinny = few(x, gate_up, gated=True)
        if skinny and norm is not None and folds(x, gate_up) and normed(x, norm):
            return linear.norm_gated(x, norm, eps, gate_up, activation)
        ready = x if norm is None else self.rms_norm(x, norm, eps)
        if wgmma.takes(ready, gate_up, gated=True, activation=activation):
            return wgmma.multiplied(ready, gate_up, gated=True)[0]
        if skinny:
            return linear.gated(ready, gate_up, activation, following=following)
        return self.gate(super().linear(ready, wide(gate_up, ready)), activation)

    def rope_write(
        self,
        qkv: Tensor,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        eps: float,
        rope: Tensor,
        pages: Pages,
        layer: int,
        slots: Tensor,
        positions: Tensor,
        kind: AttentionKind = PLAIN,
    ) -> Tensor:
        """As in TorchOps."""
        write = elementwise.rope_write if knows(qkv, pages, layer) else super().rope_write
        heads = self._heads_normed(qkv, q_norm, k_norm, eps, pages.keys[layer])
        return write(*heads, eps, rope, pages, layer, slots, positions, kind)

    def attend_rows(
        self,
        q: Tensor,
        pages: Pages,
        layer: int,
        slots: Tensor,
        first: Tensor,
        scale: float,
        kind: AttentionKind = PLAIN,
    ) -> Tensor:
        """As in TorchOps."""
        attend = attention.attend_rows if knows(q, pages, layer) else super().attend_rows
        return attend(q, pages, layer, slots, first, scale, kind)

    def attend_cascade(
        self, q: Tensor, pages: Pages, layer: int, slots: Tensor, first: Tensor, prefixes: PrefixTiles, scale: float,
        kind: AttentionKind = PLAIN,
    ) -> Tensor:  # fmt: skip
        """As in TorchOps."""
        attend = attend_cascade if knows(q, pages, layer) else super().attend_cascade
        return attend(q, pages, layer, slots, first, prefixes, scale, kind)

    def rope_attend(
        self,
        qkv: Tensor,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        eps: float,
        rope: Tensor,
        pages: Pages,
        layer: int,
        slots: Tensor,
        first: Tensor,
        token_slots: Tensor,
        token_positions: Tensor,
        scale: float,
        kind: AttentionKind = PLAIN,
    ) -> Tensor:
        """In one kernel for few tokens of a row."""
        keys = pages.keys[layer]
        heads = qkv.shape[1] // keys.shape[3] - 2 * keys.shape[1]
        few = rope_attention.tile_of(len(qkv) // len(slots), heads, keys.shape[1]) <= rope_attention.TILE
        before = *self._heads_normed(qkv, q_norm, k_norm, eps, keys), eps, rope, pages, layer
        if few and knows(qkv, pages, layer):
            return rope_attention.rope_attend(*before, slots, first, scale, kind)
        return super().rope_attend(*before, slots, first, token_slots, token_positions, scale, kind)

    def _heads_normed(
        self, qkv: Tensor, q_norm: Tensor | None, k_norm: Tensor | None, eps: float, keys: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Norms over all heads done; those over one are left to the kernels that rotate."""
        if q_norm is None or k_norm is None or len(q_norm) == keys.shape[3]:
            return qkv, q_norm, k_norm
        return self.norm_heads(qkv, q_norm, k_norm, eps), None, None

    def attend_packed(
        self, q: Tensor, pages: Pages, layer: int, tiles: Tiles, scale: float, kind: AttentionKind = PLAIN
    ) -> Tensor:
        """As in TorchOps."""
        attend = prefill_attention.attend_packed if knows(q, pages, layer) else super().attend_packed
        return attend(q, pages, layer, tiles, scale, kind)
