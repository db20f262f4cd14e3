"""Rows that begin alike, with their beginnings shared and not, in one process: see benchmarks.gpu --shared-prefix."""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch

from benchmarks.gpu_lines import Pair, Warmed, k_shares, wait_all, warmed_engine
from benchmarks.inputs.workloads import Rows
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.engine.memory import loaded_set_aside
from specbatch.engine.request import Request
from specbatch.runner.rows.window import RowWindow

_WINDOW = 4096
_COLUMNS = (
    "rows of",
    "order",
    "shared",
    "rows",
    "seconds",
    "tokens/s",
    "prefill s",
    "saved",
    "rows a round",
    "together",
    "k used",
    "match",
)


@dataclass(frozen=True, slots=True)
class Case:
    """Documents with questions.

    documents, document: how many, and tokens of each; 0 tokens: rows share nothing
    questions, own: rows of each document, and tokens of a question
    unshared: rows that are timed where nothing is shared, the speed of all of them
    """

    name: str
    documents: int
    document: int
    questions: int
    own: int
    unshared: int

    def rows(self, vocab: int, new: int, at_once: int) -> Rows:
        """Sorted by document."""
        generator = torch.Generator().manual_seed(self.document)

        def tokens(count: int, length: int) -> list[list[int]]:
            return torch.randint(0, vocab, (count, length), generator=generator).tolist()

        documents, own = tokens(self.documents, self.document), tokens(self.documents * self.questions, self.own)
        prompts = [[*documents[number // self.questions], *question] for number, question in enumerate(own)]
        return Rows(prompts, [new] * len(prompts), at_once)


def cases(rows: int, documents: int) -> list[Case]:
    """One beginning for all rows; several completions of a prompt; nothing in common; documents with twenty questions."""
    few = min(rows // 4, 200)
    return [
        Case("1,000 shared + 100", 1, 1000, rows, 100, max(1, rows // 8)),
        Case("8 of a prompt of 1,000", max(1, few // 8), 1000, 8, 0, few),
        Case("nothing shared", few, 0, 1, 300, few),
        Case("documents of 4,000", max(1, documents), 4000, 20 if documents else 0, 50, documents),
    ]


def run(asked: argparse.Namespace, pair: Pair) -> bool:
    """Prints a line for each order of each case, shared and not; whether every token was right."""
    print("\n| " + " | ".join(_COLUMNS) + " |\n" + "|---" * len(_COLUMNS) + "|")
    right = True
    *short, long = cases(asked.shared_rows, asked.shared_documents)
    short = [case for case in short if re.search(asked.shared_only, case.name)]
    for together in (short, [long]):
        works = [case.rows(pair.order.inner, asked.new, asked.rows[0]) for case in together]
        if not works or not works[0].prompts:
            continue
        with warmed_engine(pair, asked.k, works) as warmed:
            for case, work in zip(together, works, strict=True):
                turns = _turns(pair, warmed, case, work, asked.k[0]) if asked.cascade and case is short[0] else ()
                for line in chain(_lines(pair, warmed, case, work, asked.k[0]), turns):
                    print("| " + " | ".join(line.cells) + " |", flush=True)
                    right &= line.right
    return right


@dataclass(frozen=True, slots=True)
class _Line:
    cells: Sequence[str]
    right: bool


def _lines(pair: Pair, warmed: Warmed, case: Case, work: Rows, k: int | None) -> Iterator[_Line]:
    chance = random.Random(5)
    shuffled = _of(work, chance.sample(range(len(work.prompts)), len(work.prompts)))
    few = _of(shuffled, range(case.unshared))
    if not case.document:  # turn by turn: what differs is small
        for turn in range(6):
            yield _timed(pair, warmed, case.name, "as it is", work, k, sharing=turn % 2 == 0)
        return
    if case.documents > 1:
        yield _timed(pair, warmed, case.name, "sorted", work, k, sharing=True)
    yield _timed(pair, warmed, case.name, "random", shuffled, k, sharing=True)
    yield _timed(pair, warmed, case.name, "random", few, k, sharing=False)


def _turns(pair: Pair, warmed: Warmed, case: Case, work: Rows, k: int | None) -> Iterator[_Line]:
    """Of as many rows as are decoded at once: without cascade attention, with it, and as a run has it: where it pays. The first line of each captures its rounds."""
    work = _of(work, range(min(work.at_once, len(work.prompts))))
    for cascade in (False, True, None) * 2:
        yield _timed(pair, warmed, case.name, "as it is", work, k, sharing=True, cascade=cascade)


def _of(work: Rows, places: Sequence[int]) -> Rows:
    return replace(
        work, prompts=[work.prompts[place] for place in places], new_tokens=[work.new_tokens[place] for place in places]
    )


def _timed(
    pair: Pair,
    warmed: Warmed,
    name: str,
    order: str,
    work: Rows,
    k: int | None,
    *,
    sharing: bool,
    cascade: bool | None = None,
) -> _Line:
    warmed.choose(k)
    engine = warmed.engine
    _share(warmed, sharing=sharing, cascade=cascade)
    source = _seated(work.requests()) if sharing else iter(work.requests())
    with loaded_set_aside():  # as a run has it
        wait_all(pair)
        start = time.perf_counter()
        completions = list(engine.generate(source))
        wait_all(pair)
        seconds = time.perf_counter() - start
    stats = engine.stats
    match = work.right(pair.order, completions) / len(work.prompts)
    used = " ".join(f"{k}:{share:.0%}" for k, share in k_shares(stats).items())
    cells = [
        name,
        order,
        {True: "cascade", False: "apart", None: "yes"}[cascade] if sharing else "no",
        f"{len(work.prompts):,}",
        f"{seconds:.2f}",
        f"{work.new_total / seconds:,.0f}",
    ]
    cells += [
        f"{stats.seconds['prefill']:.2f}",
        f"{stats.prefill_tokens_saved / work.prompt_total:.1%}",
        f"{stats.row_rounds / stats.rounds:.0f}",
        f"{stats.cascade_rounds / stats.rounds:.0%}",
        used,
        f"{match:.3f}",
    ]
    return _Line(cells, match == 1.0)


def _share(warmed: Warmed, *, sharing: bool, cascade: bool | None) -> None:
    """Whether rows share pages from now on; what earlier ones left is not found."""
    runner = warmed.engine.runner
    if isinstance(runner, GraphModelRunner):
        runner.kv.sharing, runner.cascade.wanted = sharing, cascade
        for pool in runner.pair.pools:
            pool.allocator.forget_all()


def _seated(requests: Sequence[Request]) -> Iterator[Request]:
    """In the order of a run, whose window is full when its first row is taken."""
    window: RowWindow[Request] = RowWindow(_WINDOW)
    coming, last = iter(requests), None
    while True:
        while len(window) < _WINDOW and (request := next(coming, None)) is not None:
            if not window.put(request, request.prompt_token_ids, 0):
                coming = iter([request, *coming])
                break
        taken = window.take(last)
        if taken is None:
            return
        request, last = taken
        yield request
