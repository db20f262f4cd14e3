"""One line of the GPU table: an engine, timed over rows whose continuation is known."""

from __future__ import annotations

import copy
import gc
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks.device_speed import wait
from benchmarks.inputs.synthetic import Order
from benchmarks.inputs.workloads import Rows
from benchmarks.predictions.predicted_lines import predicted_busy, predicted_round
from specbatch.engine.config import EngineConfig
from specbatch.engine.engine import Engine
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.eagle3 import Eagle3Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.engine.make_engine import make_engine
from specbatch.engine.memory import loaded_set_aside
from specbatch.engine.regrouping import Regrouping
from specbatch.engine.request import Completion, Request
from specbatch.engine.scheduler import FEW_SLOTS
from specbatch.engine.speculation.controller import Controller, FixedK
from specbatch.engine.speculation.depth import Speculation
from specbatch.engine.stats import EngineStats

GB = 1e9
_KV_KEPT_IN = ("SlotLayer", "Pages")  # classes of specbatch.engine


@dataclass
class Pair:
    """The models on their devices, in one dtype, and what the target says."""

    target: CausalLM
    drafter: CausalLM | Eagle3Drafter | None
    order: Order
    window: int | None = None  # of a draft model, see drafter.window
    more_drafters: Sequence[CausalLM] = ()  # the same draft model on other devices

    def keep_kv(self, dtype: str) -> None:
        """Keys and values of the engines to come: auto, in the models' dtype; target, its own in FP8; fp8, those of a draft model, too."""
        self.target.fp8_kv = dtype in {"target", "fp8"}
        for model in (self.drafter, *self.more_drafters):
            if isinstance(model, CausalLM):
                model.fp8_kv = dtype == "fp8"

    @cached_property  # to look at every weight takes milliseconds, and what is timed ends with a wait for all devices
    def devices(self) -> list[torch.device]:
        """All devices that hold weights."""
        return sorted({weight.device for weight in _weights(self)}, key=str)


@dataclass
class Line:
    """What one engine did: seconds of generate() over all repeats, and what it counted in them."""

    rows: int
    fitting: int  # fewer than rows where memory did not suffice
    k: int | None
    tokens_per_second: float
    round_ms: float  # of the device where the engine times it, as the graphs runner does
    waited: float  # share of the time outside of rounds and prefill
    accepted_length: float  # tokens that a row gains a round
    acceptance_rate: float
    prefill_seconds: float
    warmup_seconds: float
    match: float
    overhead_gb: float | None  # peak memory of all devices beyond weights and KV; None on a CPU
    kv_gb: float
    k_shares: dict[int, float] = field(default_factory=dict)  # of the rounds
    engine: str = ""  # its class
    groups: int = 1  # of rows in flight, as most rounds had it
    predicted_ms: float | None = None  # of a round at the k that most had, see predicted_lines
    busy: dict[str, float] = field(default_factory=dict)  # see EngineStats.device_busy
    predicted_busy: dict[str, float] = field(default_factory=dict)  # likewise
    acceptance: float | None = None  # as the pair was made
    prompt: int = 0  # tokens of the longest
    kv_dtype: str = "auto"
    of_nominal: float | None = None
    of_measured: float | None = None


@dataclass
class Warmed:
    """An engine that has measured and recorded what it needs, for any of the k that are asked for."""

    engine: Engine
    seconds: float
    controller: Controller  # as warm-up left it
    regrouping: Regrouping | None
    groups: int

    def choose(self, k: int | None) -> None:
        """Makes the engine begin anew, with a fixed k or an automatic one."""
        engine = self.engine
        engine.controller = copy.deepcopy(self.controller) if k is None else FixedK(k)
        engine.regrouping = copy.deepcopy(self.regrouping) if k is None or engine.drafter is None else None
        with torch.inference_mode(), engine.runner.entered():
            engine.regroup(self.groups)
        for learning in (engine.controller, engine.regrouping):
            if learning is not None:
                learning.regrouped(self.groups)
        engine.stats.restart()


def measure(pair: Pair, warmed: Warmed, k: int | None, workloads: Sequence[Rows]) -> Line:
    """Times an engine on one workload after the other, all of one size.

    Args:
        pair: the models.
        warmed: the engine.
        k: tokens drafted a round; None is auto.
        workloads: timed each for itself, and summed.
    """
    gpus = wait_all(pair)
    for device in gpus:
        torch.cuda.reset_peak_memory_stats(device)
    right, made, seconds = 0, 0, 0.0
    warmed.choose(k)
    engine = warmed.engine
    with loaded_set_aside():  # as a run has it
        for rows in workloads:
            requests = _Requests(engine, rows)
            wait_all(pair)
            start = time.perf_counter()
            completions = [requests.ended(completion) for completion in engine.generate(requests)]
            wait_all(pair)
            seconds += time.perf_counter() - start
            right += rows.right(pair.order, completions)
            made += sum(len(completion.token_ids) for completion in completions)
    stats, kv, shares = engine.stats, _kv_bytes(), k_shares(engine.stats)
    in_rounds = sum(stats.seconds[phase] for phase in ("draft", "verify", "accept"))
    peak = sum(torch.cuda.max_memory_reserved(device) for device in gpus)
    return Line(
        rows=workloads[0].at_once,
        fitting=stats.max_sequences,
        k=k,
        tokens_per_second=made / seconds,
        round_ms=1e3 * in_rounds / max(stats.rounds, 1),
        waited=1 - (in_rounds + stats.seconds["prefill"]) / seconds,
        accepted_length=stats.mean_acceptance_length,
        acceptance_rate=stats.acceptance_rate,
        prefill_seconds=stats.seconds["prefill"] / len(workloads),
        warmup_seconds=warmed.seconds,
        match=right / sum(len(rows.prompts) for rows in workloads),
        overhead_gb=(peak - weight_bytes(pair) - kv) / GB if gpus else None,
        kv_gb=kv / GB,
        k_shares=shares,
        engine=type(engine.runner).__name__,
        groups=stats.micro_batches,
        **_predicted(engine, workloads[0], next(iter(shares)), stats.micro_batches),
        busy=dict(stats.device_busy),
    )


class _Requests(Iterator[Request]):
    """A workload's requests, no more than `at_once` of them in an engine that may have room for more; those that are free are given together, as the scheduler has rows join.

    Args:
        engine: that asks.
        rows: the workload.
    """

    def __init__(self, engine: Engine, rows: Rows) -> None:
        self._engine, self._rest = engine, iter(rows.requests())
        self._free, self._together = rows.at_once, rows.at_once // FEW_SLOTS
        self._giving = True

    def __next__(self) -> Request:
        self._giving = self._free > (0 if self._giving or not self._engine.scheduler else self._together)
        if not self._giving:
            raise StopIteration
        request = next(self._rest)
        self._free -= 1
        return request

    def ended(self, completion: Completion) -> Completion:
        """Another may come for it."""
        self._free += 1
        return completion


def _predicted(engine: Engine, work: Rows, k: int, groups: int) -> dict[str, Any]:
    """Of a line, what is predicted."""
    runner = engine.runner
    if not isinstance(runner, GraphModelRunner):
        return {}
    times = predicted_round(runner, work.at_once, k, groups, work.mean_length)
    return {"predicted_ms": 1e3 * times.interval(groups), "predicted_busy": predicted_busy(runner, times, groups)}


@contextmanager
def warmed_engine(
    pair: Pair, ks: Sequence[int | None], workloads: Sequence[Rows], groups: int | None = None
) -> Iterator[Warmed]:
    """An engine of the sizes that the workloads need, warmed up, which leaves no cache behind.

    Args:
        pair: the models.
        ks: that it will be asked for; 0 alone leaves the drafter away.
        workloads: that it will be given.
        groups: of rows in flight; None: as many as pay.
    """
    free()  # what the engine before has held: no name refers to it now
    wait_all(pair)
    began = time.perf_counter()
    length = max(rows.max_length for rows in workloads)
    k = ks[0] if len(ks) == 1 else None
    speculation = Speculation.adaptive(8) if k is None else Speculation.fixed(k)
    config = EngineConfig(
        *(workloads[0].at_once, length, speculation),
        sampling=workloads[0].sampling,
        micro_batches=groups,
        drafter_window=pair.window,
        prefix_caching=False,  # a line's prompts are those of the line before
    )
    drafter = _drafter(pair) if list(ks) != [0] else None
    engine = make_engine(pair.target, drafter, config)
    engine.warmup()
    wait_all(pair)
    assert engine.controller is not None, "warmed up"
    warmed = Warmed(engine, time.perf_counter() - began, engine.controller, engine.regrouping, engine.runner.groups)
    try:
        yield warmed
    finally:
        del engine, drafter, warmed.engine
        for model in (pair.target, pair.drafter, *pair.more_drafters):
            if isinstance(model, CausalLM):
                model.cache = None


def _drafter(pair: Pair) -> Drafter | None:
    drafter = pair.drafter
    return ModelDrafter(drafter, replicas=pair.more_drafters) if isinstance(drafter, CausalLM) else drafter


def free() -> None:
    """Gives back what engines that are gone have held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def k_shares(stats: EngineStats) -> dict[int, float]:
    """Which k how large a share of the rounds had."""
    shares: Counter[int] = Counter()
    ends = [*(begin for begin, _ in stats.k_changes[1:]), stats.rounds]
    for (begin, k), end in zip(stats.k_changes, ends, strict=True):
        shares[k] += end - begin
    return {k: count / stats.rounds for k, count in shares.most_common()}


def weight_bytes(pair: Pair) -> int:
    """Of both models."""
    return sum(weight.numel() * weight.element_size() for weight in _weights(pair))


def wait_all(pair: Pair) -> list[torch.device]:
    """Waits for every device; returns the GPUs among them."""
    for device in pair.devices:
        wait(device)
    return [device for device in pair.devices if device.type == "cuda"]


def _weights(pair: Pair) -> list[Tensor]:
    models = [pair.target.model]
    if pair.drafter is not None:
        models.append(pair.drafter.model if isinstance(pair.drafter, CausalLM) else pair.drafter.head)
        models += [drafter.model for drafter in pair.more_drafters]
    return list(
        {weight: None for model in models for weight in (*model.parameters(), *model.buffers())}
    )  # a head's embedding is the target's


def _kv_bytes() -> int:
    """Of every engine that is alive: found by what KV is kept in, whoever keeps it."""
    storages: dict[int, int] = {}
    for held in gc.get_objects():
        if type(held).__name__ in _KV_KEPT_IN:  # not isinstance: some modules answer that with a warning
            for kept in (getattr(held, name, ()) for name in ("keys", "values", "key_scales", "value_scales")):
                for tensor in [kept] if isinstance(kept, Tensor) else kept if isinstance(kept, list) else ():
                    storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())
