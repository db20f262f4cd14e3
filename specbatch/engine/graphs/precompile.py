"""Compiles the kernels of a pair's steps many at a time, before the first of them runs: each takes a core a second or more.

The steps are gone through with launches that only ask for their kernel: nothing of ours runs on the device, and what PyTorch runs in
between works on whatever memory holds. So only steps that index nothing by what a kernel has left are gone through: forwards, and
rounds without filters. What is missed is compiled when it is first launched.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from torch import Tensor

from specbatch.engine.graphs.cascade.tiles import ROWS
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.pair import CapturedPair
from specbatch.engine.memory import free_cached
from specbatch.engine.request import SamplingParams

_MOST_WORKERS = 16  # a pod sees all cores of its node, whatever its share of them
_patching = threading.Lock()  # engines of one process share Triton


def precompile(pair: CapturedPair, say: Callable[[str], None]) -> None:
    """Compiles for a pair whose rounds are about to be captured. Errors are left to the launches that will meet them.

    Args:
        pair: without rows.
        say: told that it begins.
    """
    if pair.device.type != "cuda":
        return
    workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
    if workers < 2:
        return
    say(f"compiling kernels on {workers} cores")
    with suppress(Exception), compiling_only(workers):
        go_through(pair)
    for lane in pair.lanes:
        free_cached(lane.device)  # captures have memory of their own: what this took would lie beside it


def go_through(pair: CapturedPair) -> None:
    """Does each kind of step once, on the padding slot and by few layers; the largest first, whose memory the others use again."""
    mode = Mode.of([pair.config.sampling])
    if mode.filters or pair.config.acceptance_rule == "rejection":
        mode = Mode((SamplingParams(),))
    with ExitStack() as stack:
        for prefill in (pair.prefill, *pair.drafter.prefills):
            for stage in prefill.decoder.stages:
                stack.enter_context(stage.shortened())
        _steps(pair, mode)


def _steps(pair: CapturedPair, mode: Mode) -> None:
    def go(lane: Lane, step: Callable[..., None], *args: object) -> None:
        pair.graphs.as_it_is(lambda capture: step(capture, *args), lane)

    for prefill in (pair.prefill, *pair.drafter.prefills):
        go(prefill.state.lane, prefill.forward, prefill.sizes[0])
    for rows in sorted(pair.buckets, reverse=True):
        ks = pair.ks(rows)
        for group, state in enumerate(pair.drafting_states):
            pair.drafter.group = group
            go(state.lane, pair.drafter.trace, rows, ks[0], mode)
        for k in ks:
            go(pair.front.lane, pair.verifier.verify, rows, k, mode)
    if pair.target.stages[0].kv.prefixes is None or pair.slots < ROWS:
        return
    mode, rows = replace(mode, cascade=True), pair.buckets[-1]
    for group, state in enumerate(pair.drafting_states):
        pair.drafter.group = group
        go(state.lane, pair.drafter.trace, rows, pair.ks(rows)[0], mode)
    for k in pair.ks(rows):
        go(pair.front.lane, pair.verifier.verify, rows, k, mode)


class _Workers(ThreadPoolExecutor):
    """Threads that compile kernels, and what launches them: Triton up to 3.6 builds that in C when it is first needed."""

    def submit(self, build: Callable[[], Any]) -> Future[Any]:  # type: ignore[override]  # as Triton asks
        """Queues what compiles a kernel."""
        return super().submit(_with_launcher, build)


def _with_launcher(build: Callable[[], Any]) -> Any:
    from triton.runtime import driver  # noqa: PLC0415  # Triton is not installed with a CPU's torch

    kernel = build()
    with suppress(Exception):  # the launch will say it
        driver.active.launcher_cls(kernel.src, kernel.metadata)
    return kernel


@contextmanager
def compiling_only(workers: int) -> Iterator[None]:
    """Kernels that this thread launches are compiled by others, and do not run; at the end all are compiled."""
    import triton  # noqa: PLC0415  # Triton is not installed with a CPU's torch
    from triton.runtime.jit import JITFunction  # noqa: PLC0415

    launch, here, seen = JITFunction.run, threading.get_ident(), set()

    def kind_of(arg: Any) -> Any:
        """What tells kernels apart; of a descriptor (TMA's) the block that is copied."""
        return tuple(arg.block_shape) if hasattr(arg, "block_shape") else arg

    def ask(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        if threading.get_ident() != here:
            return launch(self, *args, grid=grid, warmup=warmup, **kwargs)
        kinds = tuple(arg.dtype if isinstance(arg, Tensor) else kind_of(arg) for arg in args)
        key = id(self), kinds, tuple(kwargs.items())
        if key not in seen:
            seen.add(key)
            launch(self, *args, grid=grid, warmup=True, **kwargs)
        return None

    with _patching, _Workers(workers) as pool:
        JITFunction.run = ask
        try:
            with triton.AsyncCompileMode(pool, ignore_errors=True):
                yield
        finally:
            JITFunction.run = launch
