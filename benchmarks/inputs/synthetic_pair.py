"""A target and a drafter of either kind, a model or an EAGLE-3 head of the target's size, as the GPU benchmark pairs them."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.gpu_lines import Pair
from benchmarks.inputs.synthetic import SHAPES, Order, Shape, set_head
from benchmarks.inputs.synthetic_head import build_head, drafted_tokens, head_shape, set_head_drafts
from specbatch.engine.general.model import CausalLM

EAGLE3 = "eagle3"


def drafter_shape(target: str, drafter: str) -> Shape | None:
    """Of the drafter; None without one."""
    return head_shape(SHAPES[target]) if drafter == EAGLE3 else SHAPES.get(drafter)


def inner_tokens(target: str, drafter: str) -> int:
    """The tokens that rows are made of: those that a head drafts; 0 for all."""
    return drafted_tokens(SHAPES[target]) if drafter == EAGLE3 else 0


def paired(asked: argparse.Namespace, target: Any, drafter: Any, order: Order) -> Pair:
    """The pair that a command line asks for, whose models are built; a head is built here."""
    wrapped = CausalLM(target)
    if asked.drafter == EAGLE3:
        following = order.agreeing(asked.acceptance[0])
        return Pair(wrapped, build_head(SHAPES[asked.target], wrapped, following, asked.seed + 1), order)
    return Pair(wrapped, CausalLM(drafter) if drafter is not None else None, order)


def set_acceptance(pair: Pair, acceptance: float) -> None:
    """In place: what is recorded goes on with it."""
    following = pair.order.agreeing(acceptance)
    if isinstance(pair.drafter, CausalLM):
        set_head(pair.drafter.model, following)
    elif pair.drafter is not None:
        set_head_drafts(pair.drafter.head, following)
