"""Which lanes the parts of target and drafter get."""

from __future__ import annotations

from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.lanes import Lane, make_lanes


def lanes_of(target: Decoder, drafter: Decoder | None, *, apart: bool) -> list[Lane]:
    """One lane where all is on one device, else one for each stage; the decoders are given theirs."""
    of_target, of_drafter = target.devices, drafter.devices if drafter is not None else []
    devices = [*of_target, *of_drafter]
    alone = len(set(devices)) == 1 and not (apart and drafter is not None) and len(target.stages) == 1
    lanes = make_lanes(devices[:1] if alone else devices)
    target.run_on(lanes if alone else lanes[: len(of_target)])
    if drafter is not None:
        drafter.run_on(lanes if alone else lanes[len(of_target) :])
    return lanes
