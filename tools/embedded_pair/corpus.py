"""Training rows: tokenised conversations of generated tasks, sorted into a few fixed lengths.

Fixed lengths mean fixed shapes: each is compiled and captured once.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.embedded_pair.tasks import Task, generate
from tools.embedded_pair.tokenizer import SYSTEM_PROMPTS, TURN_END, as_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

LENGTHS = (72, 104, 144, 384)  # tokens; rows longer than the last are dropped
CONVERSATION_SHARE = 0.06  # conversations of two to four turns, for long contexts
SYSTEM_SHARE = 0.15


@dataclass(frozen=True)
class Rows:
    """Rows of one length, right-padded."""

    ids: NDArray[np.uint16]  # [rows, length]
    answer: NDArray[np.bool_]  # [rows, length], True where the token is to be predicted: the answer and its <|im_end|>


def conversations(seed: int, count: int) -> Iterator[list[Task]]:
    """Group `count` training tasks: mostly alone, some as turns of one conversation."""
    rng = random.Random(f"conversations {seed}")
    tasks = generate(seed, count)
    for task in tasks:
        turns = [task]
        if rng.random() < CONVERSATION_SHARE:
            turns += [turn for turn, _ in zip(tasks, range(rng.randint(1, 3)), strict=False)]
        yield turns


def _parts(turns: list[Task], system: str | None) -> list[str]:
    """The row's text cut where answers begin and end: context, answer, context, answer, ..."""
    parts = []
    for number, task in enumerate(turns):
        context = as_prompt([], task.prompt, system if number == 0 else None)
        parts += [context if number == 0 else f"\n{context}", f"{task.answer}{TURN_END}"]
    return parts


def _tokenised(job: tuple[str, int, int]) -> dict[int, Rows]:
    """One worker's share: (tokenizer.json as text, seed, tasks) -> rows of every length."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - after the fork, so that no thread pool is inherited

    text, seed, count = job
    tokenizer: Tokenizer = Tokenizer.from_str(text)
    rng = random.Random(f"system prompts {seed}")
    rows = [
        _parts(turns, rng.choice(SYSTEM_PROMPTS) if rng.random() < SYSTEM_SHARE else None)
        for turns in conversations(seed, count)
    ]
    encoded = iter(tokenizer.encode_batch_fast([part for parts in rows for part in parts]))
    found: dict[int, tuple[list[NDArray[np.uint16]], list[NDArray[np.bool_]]]] = {n: ([], []) for n in LENGTHS}
    pad = tokenizer.token_to_id("<|endoftext|>")
    for parts in rows:
        pieces = [next(encoded).ids for _ in parts]
        size = sum(map(len, pieces))
        length = next((n for n in LENGTHS if n >= size), None)
        if length is None:
            continue
        ids, answer = np.full(length, pad, np.uint16), np.zeros(length, np.bool_)
        start = 0
        for number, piece in enumerate(pieces):
            ids[start : start + len(piece)] = piece
            answer[start : start + len(piece)] = number % 2 == 1
            start += len(piece)
        found[length][0].append(ids)
        found[length][1].append(answer)
    return {
        n: Rows(np.array(ids, np.uint16).reshape(-1, n), np.array(answer, np.bool_).reshape(-1, n))
        for n, (ids, answer) in found.items()
    }


def build(tokenizer_json: str, seed: int, count: int, processes: int) -> dict[int, Rows]:
    """Make and tokenise `count` tasks on `processes` cores; the result does not depend on how many."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    share = 5_000
    jobs = [
        (tokenizer_json, seed * 100_000 + number, min(share, count - number * share))
        for number in range(-(-count // share))
    ]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        parts = pool.map(_tokenised, jobs, chunksize=1)
    return {
        n: Rows(np.concatenate([part[n].ids for part in parts]), np.concatenate([part[n].answer for part in parts]))
        for n in LENGTHS
    }
