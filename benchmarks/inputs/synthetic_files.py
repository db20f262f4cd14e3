"""A synthetic pair as folders that any engine loads: weights, config, and the tokenizer of the quickstart's models, whose tokens are the first of the shape's."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

import specbatch.embedded
from benchmarks.inputs.synthetic import SHAPES, Order, build

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def write_pair(folder: Path, target: str, drafter: str, acceptance: float, dtype: torch.dtype) -> tuple[Path, Path]:
    """The folders of both, made in a folder; an 8B shape takes 16 GB and its time is the disk's.

    Args:
        folder: theirs are made in it.
        target: a name of SHAPES.
        drafter: likewise.
        acceptance: share of the target's tokens that the drafter drafts.
        dtype: of the weights.
    """
    order = Order(SHAPES[target].vocab)
    places = {"": torch.device("cuda" if torch.cuda.is_available() else "cpu")}
    beside = Path(specbatch.embedded.__file__).parent / "target"
    paths = []
    for seed, (name, following) in enumerate(((target, order.next), (drafter, order.agreeing(acceptance)))):
        path = folder / f"{'drafter' if seed else 'target'}-{name}"
        build(SHAPES[name], following, places, dtype, seed).save_pretrained(path)
        for file in _TOKENIZER:
            shutil.copy(beside / file, path)
        paths.append(path)
    return paths[0], paths[1]
