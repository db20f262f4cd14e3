"""How long a round should take in a run: warm-up's times, what the longer context adds, and what waiting takes."""

from __future__ import annotations

import torch

from benchmarks.device_speed import nominal
from specbatch.engine.fp8.kv import head_bytes
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.engine.graphs.sizes import bucket
from specbatch.engine.pipeline import RoundTimes

_OF_NOMINAL = 0.85  # of the data sheet's bandwidth is what KV is read at


def predicted_round(runner: GraphModelRunner, rows: int, k: int, groups: int, context: float) -> RoundTimes:
    """What a round of one of the groups takes.

    Args:
        runner: warmed up.
        rows: of all groups.
        k: tokens drafted a round.
        groups: in flight.
        context: tokens that a row has in its cache, on average over the run.
    """
    pair, each = runner.pair, bucket(runner.pair.buckets, -(-rows // groups))
    k = max(known for size, known in runner.times if size == each and known <= k)
    times = runner.times[each, k]
    several = len(pair.lanes) > 1
    more = each * (
        context - (pair.config.max_length // 2 if several else 0)
    )  # on one lane all rows are timed on one page
    target = [_reading(stage_layers, pair.target, more) for stage_layers in _layers(pair.target)]
    drafting = [prefill.decoder for prefill in pair.drafter.prefills[:1]] if k else []  # all drafters are alike
    drafter = [k * _reading(layers, decoder, more) for decoder in drafting for layers in _layers(decoder)]
    if not several:
        return RoundTimes((), (times.target[0] + sum(target) + sum(drafter),), k)
    parts = _added(times.drafter, drafter), _added(times.target, target)
    return RoundTimes(*parts, k, times.gpus, times.drafters)


def predicted_busy(runner: GraphModelRunner, times: RoundTimes, groups: int) -> dict[str, float]:
    """Device -> its share of the time between the ends of rounds, where there are several lanes."""
    pair = runner.pair
    if len(pair.lanes) == 1:
        return {}
    busy = dict.fromkeys((str(lane.device) for lane in pair.lanes), 0.0)
    parts = list(zip(pair.target.lanes, times.target, strict=True))
    for number, prefill in enumerate(pair.drafter.prefills):
        share = len(range(number, groups, times.drafters)) / groups
        parts += [(lane, share * seconds) for lane, seconds in zip(prefill.decoder.lanes, times.drafter, strict=False)]
    for lane, seconds in parts:
        busy[str(lane.device)] += seconds / times.interval(groups)
    return busy


def _layers(decoder: Decoder) -> list[int]:
    return [len(stage.layers) for stage in decoder.stages]


def _added(seconds: tuple[float, ...], more: list[float]) -> tuple[float, ...]:
    """Each stage's; where embedding or head stand apart, or nothing is drafted, there are more or fewer than stages."""
    return tuple(a + b for a, b in zip(seconds, [*more, *[0.0] * len(seconds)], strict=False))


def _reading(layers: int, decoder: Decoder, tokens: float) -> float:
    """Seconds for the KV of so many more tokens."""
    speed = nominal(_name(decoder))
    heads, width = decoder.page_shape
    return (
        tokens * layers * 2 * heads * head_bytes(width, decoder.kv_dtype) / (_OF_NOMINAL * speed.bandwidth)
        if speed
        else 0.0
    )


def _name(decoder: Decoder) -> str:
    device = decoder.stages[0].device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
