"""What the controller is told of the rows, and rounds of few of them while the others stand still."""

import dataclasses
import itertools

import pytest

from specbatch.engine.config import EngineConfig
from specbatch.engine.make_engine import general_engine
from specbatch.engine.speculation.controller import Choice
from specbatch.engine.speculation.depth import Speculation
from tests.engine import tiny
from tests.engine.graphs import fast


class Watching:
    """A controller that walks through choices of (k, rows), and keeps what it is told."""

    plain_seconds = 1.0
    is_adaptive = False

    def __init__(self, choices):
        self.choices = itertools.cycle(choices)
        self.told = []
        self.reports = []

    def choose(self, rows, lag, remaining):
        self.told.append((rows, lag, remaining))
        k, few = next(self.choices)
        return Choice(k, min(few, rows))

    def observe(self, report):
        self.reports.append(report)


# Twice where rounds must land first: then the choice is made again.
@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        [(2, 3), (0, 9)],
        [(1, 1), (3, 4), (2, 9)],
        [(0, 9), (3, 2), (3, 2), (0, 9), (0, 9), (2, 9), (2, 9)],
    ],
)
def test_rows_that_stand_still_for_a_round_lose_no_token(pair, choices):
    controller = Watching(choices)
    out, engine = fast.decode(pair.target, pair.twin, fast.requests(pair.prompts), controller, max_sequences=9)
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected
    assert engine.stats.acceptance_rate == 1.0  # the twin agrees wherever its KV is right
    of_few = [report for report in controller.reports if report.standing]
    assert of_few
    assert {report.rows for report in of_few} <= {few for _, few in choices if few < 9}


@pytest.mark.slow
def test_what_few_show_is_known_before_the_next_choice(pair):
    controller = Watching([(2, 3), (0, 9)])
    seen = []
    choose = controller.choose
    controller.choose = lambda *told: (seen.append(len(controller.reports)), choose(*told))[1]
    fast.decode(pair.target, pair.twin, fast.requests(pair.prompts[:9]), controller, max_sequences=9)
    assert seen[:2] == [0, 1]
    assert controller.reports[0].rows == 3
    assert controller.reports[0].standing == 6


@pytest.mark.slow
def test_a_round_of_few_stands_for_its_share_of_a_plain_one(pair):
    controller = Watching([(2, 3)])
    _, engine = fast.decode(pair.target, pair.twin, fast.requests(pair.prompts[:4], 3), controller, max_sequences=4)
    assert engine.stats.emitted == 12
    # Three rows end in a round while the fourth stands still, which then has nobody beside it.
    assert engine.stats.plain_rounds == pytest.approx(9 / 4 + 3)


def fast_engine(pair, drafter, controller):
    return fast.engine(pair.target, drafter, controller, max_sequences=3)


def general(pair, drafter, controller):
    return general_engine(
        pair.target, drafter, EngineConfig(3, 128, Speculation.fixed(8), prefill_chunk=32), controller
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [general, fast_engine])
def test_a_controller_is_told_what_drafting_would_take_and_what_rows_bring_later(pair, make):
    lengths, prompts = (9, 9, 3, 5), [prompt for prompt in pair.prompts if len(prompt) > 3][:4]
    rows = [dataclasses.replace(row, max_new_tokens=n) for row, n in zip(fast.requests(prompts), lengths, strict=True)]
    unseen = [len(row.prompt_token_ids) - 1 for row in rows]
    controller = Watching([(0, 9)])
    engine = make(pair, pair.noisy, controller)
    assert len(list(engine.generate(rows))) == 4
    assert controller.told[0] == (3, sum(unseen[:3]), sum(lengths[:3]))
    assert [report.joined for report in controller.reports if report.joined] == [unseen[3]]
    controller.told.clear()
    list(make(pair, None, controller).generate(rows[:1]))
    assert {lag for _, lag, _ in controller.told} == {0}
