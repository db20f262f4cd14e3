"""The fast path's engine as tests drive it: on a CPU it runs the same steps, eagerly and in plain PyTorch."""

import itertools
import random
from collections.abc import Sequence

import torch

from specbatch.engine.engine import Engine
from specbatch.engine.general.drafter import Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs import warmup
from specbatch.engine.make_engine import graphs_engine
from specbatch.engine.request import Completion, Request, SamplingParams
from specbatch.engine.speculation.controller import Choice
from tests.engine import tiny
from tests.engine.test_engine_ending import StopAt

if not torch.cuda.is_available():  # nothing is captured here, and no test asks how fast it is
    warmup._FIRST, warmup._REPEATS = 1, 1

# Of each kind that a capture is made for: draws from all tokens, greedy, top-k, top-p, both.
MIXED = (
    SamplingParams(0.8),
    SamplingParams(),
    SamplingParams(1.2, top_k=8),
    SamplingParams(0.7, top_p=0.9),
    SamplingParams(0.9, top_k=20, top_p=0.8),
)
GREEDY = (SamplingParams(),)


class OwnText(NGramDrafter):
    """Prompt lookup in each row alone: when others have finished is not the same in both runners."""

    def look_up(self, history, last, k, finished):
        return super().look_up(history, last, k, None)


class Scripted:
    """A controller that walks through values of k, so that the drafter falls behind and catches up."""

    plain_seconds = None
    is_adaptive = True

    def __init__(self, ks):
        self.ks = itertools.cycle(ks)
        self.k = next(self.ks)
        self.lags = []

    def choose(self, rows, lag, remaining):
        self.lags.append(lag)
        return Choice(self.k, rows)

    def observe(self, report):
        pass

    def regrouped(self, groups):
        pass

    def follow(self, engine):
        """Goes on where a round was launched: a choice that had to wait for rounds in flight is made again."""
        launch = engine._launch

        def launched(batch):
            before = sum(sequence.in_flight for sequence in batch)
            launch(batch)
            if sum(sequence.in_flight for sequence in batch) > before:
                self.k = next(self.ks)

        engine._launch = launched


def regrouped_at_random(made, seed, share=0.3):
    """Before a share of its steps the engine deals its rows out to another number of groups; returns these numbers."""
    chance, step, seen = random.Random(seed), made._step, []

    def stepped(source):
        if chance.random() < share:
            made.regroup(chance.randint(1, made.runner.pair.most_groups))
            seen.append(made.runner.groups)
        step(source)

    made._step = stepped
    return seen


def requests(prompts, new_tokens: int = tiny.NEW, params: Sequence[SamplingParams] = (SamplingParams(),), **kwargs):
    return [
        Request(str(i), prompt, new_tokens, sampling=params[i % len(params)], **kwargs)
        for i, prompt in enumerate(prompts)
    ]


ROOM = 20


def stopped(
    prompts, lengths: Sequence[int] = (tiny.NEW,), params: Sequence[SamplingParams] = (SamplingParams(),), seed=0
):
    """Rows that a stop string ends long before their last token: towards that one the fast path drafts less."""
    return [
        Request(
            str(i),
            prompt,
            lengths[i % len(lengths)] + ROOM,
            sampling=params[i % len(params)],
            seed=seed,
            stop=StopAt(lengths[i % len(lengths)]),
        )
        for i, prompt in enumerate(prompts)
    ]


def engine(target: CausalLM, drafter: Drafter | None, controller=None, **sizes) -> Engine:
    config = tiny.config(**{"max_length": 128, "graphs_prefill_chunk": 64} | sizes)
    return graphs_engine(target, drafter, config, controller)


def finish(made: Engine, rows) -> dict[str, Completion]:
    return {completion.request.id: completion for completion in made.generate(rows)}


def decode(target, drafter, rows, controller=None, **config) -> tuple[dict[str, Completion], Engine]:
    """Completions by request id, and the engine that made them."""
    made = engine(target, drafter, controller, **config)
    if isinstance(controller, Scripted):
        controller.follow(made)
    return finish(made, rows), made


def counts(completions: dict[str, Completion]) -> dict[str, tuple[int, int, int]]:
    """Rounds, drafted and accepted tokens of each row."""
    return {name: (c.rounds, c.drafted, c.accepted) for name, c in completions.items()}
