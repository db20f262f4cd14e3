"""Which lanes the parts of target and drafter get."""

from __future__ import annotations

from collections.abc import Sequence

from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.lanes import Lane, make_lanes


def lanes_of(target: Decoder, drafters: Sequence[Decoder], *, apart: bool) -> list[Lane]:
    """One lane where all is on one device, else one for each stage; the decoders are given theirs."""
    decoders = [target, *drafters]
    devices = [device for decoder in decoders for device in decoder.devices]
    alone = len(set(devices)) == 1 and not (apart and drafters) and len(target.stages) == 1
    lanes = make_lanes(devices[:1] if alone else devices)
    begin = 0
    for decoder in decoders:
        end = begin + len(decoder.devices)
        decoder.run_on(lanes if alone else lanes[begin:end])
        begin = end
    return lanes
