"""What a device must keep free beside weights and KV, part by part, as it was measured.

With pages (the graphs runner), Qwen3-8B with Qwen3-1.7B, 128 + 128 tokens a row, beyond weights and KV, without the CUDA context: 1.2 GB with one row,
2.7 with 32, 3.4 with 128 and with 512 (H100 and H200, benchmarks/README.md). That is 1 GiB, and 3.25 times what the widest prefill and the logits of
the widest verification take: each step runs once as it is and once more in the memory of the recorded ones, and the allocator loses some. A GPU with
nothing but the drafter had 1.7 with 128 rows, 1.9 with 256 and 2.3 with 512 (H200): it has logits of one token a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbatch.plan.gpu_products import GIB
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.types import DRIVER, VERIFIED_TOKENS, DeviceUse, Speculation

_DRIVER_BYTES = 3 * GIB // 4  # CUDA context, cuBLAS, loaded kernels: taken before KV
_RECORDED_BYTES = GIB  # recorded rounds, and what loading leaves in pieces
_COPIES = 3.25  # see above
_MARGIN = 0.01  # of the memory: for what differs from the machines that were measured
PREFILL_TOKENS = 4096  # EngineConfig.graphs_prefill_chunk
_LOGIT_BYTES = 2
_WHOLE_DISTRIBUTION_BYTES = 32  # probabilities in float32, sorted, with their tokens

# Of slots (the general engine, and a CPU):
_PROCESS_BYTES = GIB  # CUDA context, cuBLAS workspaces; on the host: Python and its libraries
_FRAGMENTS = 0.02  # of the memory: what the allocator loses
_PREFILL_TOKENS_OF_SLOTS = 8192  # of all rows in one prefill forward


@dataclass(frozen=True, slots=True)
class Part:
    """What is on a device of one model.

    Attributes:
        shape: of the whole model.
        has_head: whether its head is there.
        drafting: whether it is the drafter.
    """

    shape: ModelShape
    has_head: bool
    drafting: bool


@dataclass(frozen=True, slots=True)
class Reserving:
    """What decides how much is kept free.

    Attributes:
        paged: whether the rows of a replica share pages of KV, instead of each having a slot for the longest row.
        speculation: drafts a round.
        whole_distributions: whether tokens are drawn from probabilities of the whole vocabulary that stand in memory.
    """

    paged: bool
    speculation: Speculation
    whole_distributions: bool

    def parts(self, load: DeviceUse, models: Sequence[Part], rows: int, max_length: int) -> dict[str, int]:
        """Bytes by name. Target and drafter work in turns: on one device they share the same memory.

        Args:
            load: the device.
            models: what is there of each.
            rows: at once.
            max_length: of a row.
        """
        parts = self._of_pages if self.paged else self._of_slots
        each = [parts(model, rows, max_length) for model in models]
        widest = max(each, key=sum)
        kept = dict(zip(("activations", "logits"), widest, strict=True))
        for shape in (model.shape for model in models):
            if shape.eagle3 is not None:  # kept through the target's forwards, beside all else
                width = shape.eagle3.joined * shape.eagle3.target_hidden_size * shape.dtype_bytes
                kept["hidden states"] = int((_COPIES if self.paged else 1) * self._tokens(rows, max_length) * width)
        if self.paged:
            margin = {"margin": int(_MARGIN * load.memory_bytes)}
            return {DRIVER: _DRIVER_BYTES, "recorded rounds": _RECORDED_BYTES} | kept | margin
        return {DRIVER: _PROCESS_BYTES} | kept | {"margin": int(_FRAGMENTS * load.memory_bytes)}

    def _verified(self, rows: int) -> int:
        """Tokens of the widest verification."""
        verified = rows * (self.speculation.max_k + 1)
        if self.paged and self.speculation.is_adaptive:
            verified = min(verified, max(rows, VERIFIED_TOKENS))
        return verified

    def _tokens(self, rows: int, max_length: int) -> int:
        """Tokens of the widest forward."""
        prefill = min(rows * max_length, PREFILL_TOKENS) if self.paged else min(rows * 512, _PREFILL_TOKENS_OF_SLOTS)
        return max(self._verified(rows), prefill)

    def _of_pages(self, model: Part, rows: int, max_length: int) -> tuple[int, int]:
        shape, verified, tokens = model.shape, self._verified(rows), self._tokens(rows, max_length)
        each = _WHOLE_DISTRIBUTION_BYTES if self.whole_distributions else _LOGIT_BYTES
        logits = each * (rows if model.drafting else verified) * shape.vocab_size if model.has_head else 0
        kept = 4 * verified * shape.vocab_size if model.drafting and self.whole_distributions else 0  # until verified
        return int(_COPIES * tokens * _width(shape)), int(_COPIES * logits) + kept

    def _of_slots(self, model: Part, rows: int, max_length: int) -> tuple[int, int]:
        shape, verified, tokens = model.shape, self._verified(rows), self._tokens(rows, max_length)
        # float32 logits and probabilities
        return tokens * _width(shape), 2 * 4 * verified * shape.vocab_size if model.has_head else 0


def _width(shape: ModelShape) -> int:
    """Bytes of activations for each token of a layer's forward."""
    numbers = 4 * shape.hidden_size + 2 * shape.intermediate_size * max(1, shape.experts_per_token)
    numbers += shape.experts_per_token * shape.hidden_size  # what each expert gives a token, before it is summed
    numbers += (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
    return numbers * shape.dtype_bytes
