"""What a placement takes of every device, how many rows fit, and what to change when it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from specbatch.plan.devices import GIB
from specbatch.plan.placing import Group, Replica, place_replica
from specbatch.plan.types import DeviceUse, GpuShape

MOST_ROWS_ON_GPU = 512  # beyond it a step is bound by arithmetic, and more rows only wait
MOST_ROWS_ON_CPU = 8
PAGE = 64  # tokens, as in engine/graphs/paging.py

# As in engine/graphs/sizes.py:
_PAGES_SHARE = 0.92  # of the free memory, less
_PAGES_RESERVE = 2 * GIB

_CONTEXT_BYTES = GIB  # CUDA context, cuBLAS workspaces, captured graphs; on the host: Python and its libraries
_SLACK = 0.02  # of the memory: what the allocator loses to fragments
_PREFILL_TOKENS = 8192  # of all rows in one prefill forward


def device_uses(
    replicas: Sequence[Replica], gpus: Mapping[str, GpuShape], *, rows: int, max_length: int, max_k: int
) -> tuple[DeviceUse, ...]:
    """What every device that is used holds, in the order of `gpus`.

    Args:
        replicas: all of them.
        gpus: device -> its shape.
        rows: rows in flight in each replica.
        max_length: prompt and new tokens of a row, at the most.
        max_k: drafts a round, at the most.
    """
    tokens = kv_tokens(replicas, gpus, rows=rows, max_length=max_length, max_k=max_k)
    return _uses(replicas, gpus, rows, max_k, tokens)


def kv_tokens(
    replicas: Sequence[Replica], gpus: Mapping[str, GpuShape], *, rows: int, max_length: int, max_k: int
) -> int:
    """Tokens that each replica's KV is for: what all rows need at their longest, or with pages what there is room for.

    The arguments are those of `device_uses`.
    """
    if not _paged(replicas):
        return rows * row_tokens(max_length, max_k)
    row = _row_pages(max_length, max_k)
    most = _most(lambda pages: _has_room(_uses(replicas, gpus, rows, max_k, pages * PAGE)), rows * row)
    return PAGE * max(most, _least_pages(rows, row))


def _paged(replicas: Sequence[Replica]) -> bool:
    return all(replica.is_paged for replica in replicas)


def _row_pages(max_length: int, max_k: int) -> int:
    """Pages of the longest row: a round writes k drafts and one token more beyond its end."""
    return -(-(max_length + max_k + 1) // PAGE)


def _least_pages(rows: int, row: int) -> int:
    """With fewer pages there are too many rows: each gets half of the longest row's, and one row must go through.

    Few rows are of the longest kind, and those are shorter most of their time. When pages run out the engine puts rows back: no token is
    lost, but they are prefilled anew.
    """
    return max(row, rows * -(-row // 2))


def _has_room(uses: Sequence[DeviceUse]) -> bool:
    return all(use.free_bytes >= 0 for use in uses)


def _uses(
    replicas: Sequence[Replica], gpus: Mapping[str, GpuShape], rows: int, max_k: int, tokens: int
) -> tuple[DeviceUse, ...]:
    weights, caches, work = dict.fromkeys(gpus, 0), dict.fromkeys(gpus, 0), dict.fromkeys(gpus, 0)
    used = set()
    for replica in replicas:
        placed = place_replica(replica, tokens)
        for group, model in zip(replica.groups, (placed.target, placed.drafter), strict=False):
            assert model is not None, "as many placements as groups"
            for stage in model.stages:
                used.add(stage.device)
                weights[stage.device] += stage.weight_bytes
                caches[stage.device] += stage.kv_bytes
                working = work_bytes(group, rows, max_k, has_head=stage.has_head)
                # Target and drafter work in turns: on one device they share the same scratch memory.
                work[stage.device] = max(work[stage.device], working)
    paged = _paged(replicas)
    return tuple(
        DeviceUse(
            device=device,
            gpu=gpu.name,
            memory_bytes=gpu.memory_bytes,
            weight_bytes=weights[device],
            kv_bytes=caches[device],
            reserve_bytes=_reserve(gpu.memory_bytes, weights[device], work[device], paged=paged),
        )
        for device, gpu in gpus.items()
        if device in used
    )


def _reserve(memory: int, weights: int, work: int, *, paged: bool) -> int:
    """What KV must leave free. Pages leave at least what the engine leaves when it measures the free memory."""
    reserve = int(_SLACK * memory) + work
    free = memory - weights - _CONTEXT_BYTES
    left = int(min((1 - _PAGES_SHARE) * free + _PAGES_RESERVE, free / 2))
    return _CONTEXT_BYTES + (max(reserve, left) if paged else reserve)


def row_tokens(max_length: int, max_k: int) -> int:
    """Cache positions of a row that has a slot of its own.

    A round writes k drafts and one more token before it knows which of them stay; padding goes to one position more.
    """
    return max_length + max_k + 2


def work_bytes(group: Group, rows: int, max_k: int, *, has_head: bool) -> int:
    """Activations of the widest forward, and on the head's device float32 logits and probabilities of a verify."""
    shape = group.shape
    tokens = max(rows * (max_k + 1), min(rows * 512, _PREFILL_TOKENS))
    width = 4 * shape.hidden_size + 2 * shape.intermediate_size * max(1, shape.experts_per_token)
    width += (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
    logits = 2 * 4 * rows * (max_k + 1) * shape.vocab_size if has_head else 0
    return tokens * width * shape.dtype_bytes + logits


def most_rows(
    replicas: Sequence[Replica],
    gpus: Mapping[str, GpuShape],
    *,
    max_length: int,
    max_k: int,
    cap: int,
    slots: bool = False,
) -> int:
    """The most rows a replica, up to cap, with which every device has room; 0 when not even one row fits.

    From 16 on it is a multiple of 8, which the GPU's matrix units like. With `slots` each row has room for the longest one, even
    where the shapes speak for pages; the other arguments are those of `device_uses`.
    """
    row, paged = _row_pages(max_length, max_k), _paged(replicas) and not slots

    def fits(rows: int) -> bool:
        least = PAGE * _least_pages(rows, row) if paged else rows * row_tokens(max_length, max_k)
        return _has_room(_uses(replicas, gpus, rows, max_k, least))

    rows = _most(fits, cap)
    return rows - rows % 8 if 16 <= rows < cap else rows


def most_length(
    replicas: Sequence[Replica], gpus: Mapping[str, GpuShape], *, rows: int, max_k: int, max_length: int
) -> int:
    """The longest max_length, up to the given one, with which so many rows fit; 0 when none does."""

    def fits(length: int) -> bool:
        return _has_room(device_uses(replicas, gpus, rows=rows, max_length=length, max_k=max_k))

    return _most(fits, max_length)


def _most(fits: Callable[[int], bool], cap: int) -> int:
    """The largest number in 1..cap that fits, where all below one that fits do too; 0 when 1 does not."""
    low, high = 0, cap
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def shortage(uses: Sequence[DeviceUse]) -> list[str]:
    """One sentence for each device that lacks room."""
    return [
        f"{use.device} ({use.gpu}) lacks {gib(-use.free_bytes)}: weights {gib(use.weight_bytes)}"
        f" + KV {gib(use.kv_bytes)} + reserve {gib(use.reserve_bytes)} of {gib(use.memory_bytes)}"
        for use in uses
        if use.free_bytes < 0
    ]


def gib(count: int) -> str:
    """Bytes for people: "15.3 GiB", or MiB where that is less than a tenth."""
    return f"{count / GIB:.1f} GiB" if abs(count) >= GIB / 10 else f"{count / (1 << 20):.1f} MiB"
