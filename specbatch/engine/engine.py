"""Batched speculative decoding: requests in, completions out, as each sequence ends.

A round: the drafter proposes k tokens a sequence, ONE target forward verifies k + 1 positions of every sequence, a lossless rule
decides how many drafts are accepted, each sequence commits these and one token more. Sequences that end leave at once; waiting ones
take their slots before the next round.

A runner of depth 1 runs a round while the host takes in the output of the one before: a sequence that ended there rides along for
nothing, and its tokens are dropped. With depth 0 each round is taken in before the next is launched.

Where models are spread over several devices, the sequences are in groups (micro-batches), whose rounds are launched in turn: while the
target verifies one group, the drafter drafts for another, and a target in stages has a group in each.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.memory import out_of_memory, release, too_little_memory
from specbatch.engine.model_runner import ModelRunner
from specbatch.engine.pipeline import PipelineCosts
from specbatch.engine.regrouping import Regrouping
from specbatch.engine.request import Completion, Request
from specbatch.engine.rounds import LaunchedRound, RoundOutput
from specbatch.engine.scheduler import Scheduler
from specbatch.engine.sequence import SequenceState
from specbatch.engine.speculation.adaptive_k import costs_needed, make_controller
from specbatch.engine.speculation.controller import Controller
from specbatch.engine.speculation.forced_drafts import forced_drafts
from specbatch.engine.stats import EngineStats, HostClock

_T = TypeVar("_T")

RunnerKind = Callable[[CausalLM, Drafter | None, EngineConfig, int], ModelRunner]
"""Makes a runner of (target, drafter, config, slots); raises torch's OutOfMemoryError where the KV does not fit."""


class Engine:
    """One target, an optional drafter, and the sequences that they are decoding.

    Args:
        kind: makes the model runner.
        target: the model whose output counts.
        drafter: what proposes tokens; None decodes with the target alone.
        config: sizes and rules.
        controller: chooses k; made from the config and measured costs by default.

    Raises:
        OutOfMemoryError: even one sequence at a time does not fit.
    """

    def __init__(
        self,
        kind: RunnerKind,
        target: CausalLM,
        drafter: Drafter | None = None,
        config: EngineConfig | None = None,
        controller: Controller | None = None,
    ) -> None:
        self.target = target
        self.drafter = drafter
        self.config = config or EngineConfig()
        self.controller = controller
        self.stats = EngineStats()
        self.regrouping: Regrouping | None = None  # where the number of groups is for rounds to say
        self._kind = kind
        self._own_controller = controller is None
        self._in_flight: deque[LaunchedRound] = deque()
        self._ended: list[Completion] = []
        self._host = HostClock(self.stats)
        self.runner = self._make_runner(self.config.max_sequences)
        self.scheduler = Scheduler(self.runner, self.config, self.stats)

    @torch.inference_mode()
    def warmup(self, say: Callable[[str], None] | None = None) -> None:
        """Makes the runner ready, and the controller where none was given. Called by generate() if not before.

        Args:
            say: told how far it is.

        Raises:
            KernelError: a kernel does not run on this GPU; make_engine gives the general runner from now on.
        """
        start, was_warm = time.perf_counter(), self.runner.warm
        while not self.runner.warm:  # again where memory ran out, and there are half as many slots now
            self._within_memory(lambda: self._warm_up(say or (lambda _: None)))
        if not was_warm:
            self.stats.count_warmup(time.perf_counter() - start, self.runner.groups)

    @torch.inference_mode()
    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Decodes the requests, yielding each completion as its sequence ends, in the order in which they end.

        Requests are drawn from the iterable only as slots come free. An iterator may end for now, when none is ready: it is asked
        again before the next round, and taken at its word only when no sequence is left to decode. A request needs at least one
        prompt token, at least one new token, and prompt + new tokens <= max_length.

        Raises:
            OutOfMemoryError: even one sequence at a time does not fit.
        """
        source = iter(requests)
        self.warmup()
        self._host.start()
        try:
            while True:
                self._within_memory(lambda: self._step(source))
                self.warmup()
                ended, self._ended = self._ended, []
                yield from ended
                if not (ended or self._in_flight or self.scheduler):
                    return
        finally:  # a caller that stops early leaves no sequences behind
            if self._in_flight:
                self.runner.synchronize()
            self._in_flight.clear()
            self._ended.clear()
            self.scheduler.evict_all()

    def regroup(self, groups: int) -> None:
        """Deals the sequences out to so many groups, once the rounds in flight have landed."""
        if groups == self.runner.groups:
            return
        self._drain()
        self.scheduler.regroup(groups)
        for learning in (self.controller, self.regrouping):
            if learning is not None:
                learning.regrouped(groups)

    def _step(self, source: Iterator[Request]) -> None:
        """Launches a round of the next group that has one to launch, then takes in the oldest one where `depth` of that group are in flight beside it."""
        if self.regrouping is not None:
            self.regroup(self.regrouping.groups(len(self.scheduler.running)))
        self.scheduler.refill(source)
        batch = self.scheduler.next_batch(self._rounds_of)
        if batch:
            self._launch(batch)
        if self._in_flight and (not batch or self._rounds_of(batch[0].group) > self.runner.depth):
            self._take_output()

    def _rounds_of(self, group: int) -> int:
        return sum(launched.group == group for launched in self._in_flight)

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def _launch(self, batch: list[SequenceState]) -> None:
        """Launches a round; or nothing, where rounds in flight had to land first."""
        runner, scheduler, controller = self.runner, self.scheduler, self.controller
        assert controller is not None, "warmup() before a round"
        k, sequences = scheduler.choose(controller, batch)
        forced = forced_drafts(runner, sequences, k) if scheduler.grammars else None
        if forced is not None:
            k = max(map(len, forced))
        elif k and not runner.catch_up(sequences):
            self._drain(batch[0].group)  # the drafter can only take in what the host knows
            return
        if not runner.reserve(sequences, k):
            self._drain()
            scheduler.preempt(k)
            return
        launched = runner.launch(sequences, k, forced)
        for sequence in sequences:
            sequence.in_flight += k + 1
        (joined, scheduler.joined), standing = (scheduler.joined, 0), len(batch) - len(sequences)
        plain = controller.plain_seconds
        self._in_flight.append(LaunchedRound(launched, k, sequences, plain, standing, joined, forced is not None))
        if standing:
            self._drain(batch[0].group)  # what is next hangs on what these few show

    def _take_output(self) -> None:
        """Takes in what the oldest round in flight did: tokens, counts, what the controller learns."""
        launched, stats = self._in_flight.popleft(), self.stats
        output = launched.wait()
        for sequence in launched.sequences:
            sequence.in_flight -= launched.k + 1
        stats.count_seconds(output)
        there = [place for place, sequence in enumerate(launched.sequences) if not sequence.ended]
        if there:
            if len(there) < len(launched.sequences):
                output = output.of(there)
            self._count(launched, [launched.sequences[place] for place in there], output)
        self._host.count(output.seconds + output.prefill_seconds)

    def _count(self, launched: LaunchedRound, sequences: list[SequenceState], output: RoundOutput) -> None:
        stats, before, rows = self.stats, self.stats.chosen, len(sequences) + launched.standing
        if not launched.by_grammar:  # such a round costs neither what the drafter's do, nor what plain ones do
            report = launched.report(output)
            for learning in (self.controller, self.regrouping):
                if learning is not None:
                    learning.observe(report)
        stats.count_round(launched.k, self.runner.groups, output)
        self._ended += self.scheduler.give_tokens(sequences, output, 0 if launched.by_grammar else launched.k)
        stats.count_plain(stats.chosen - before, rows, launched.seconds_alone(output))

    def _drain(self, group: int | None = None) -> None:
        """Takes in the rounds in flight, of a group or all: afterwards the host knows every sequence's length."""
        while self._in_flight if group is None else self._rounds_of(group):
            self._take_output()

    # -- warm-up and memory ----------------------------------------------------------------------------------------------

    def _warm_up(self, say: Callable[[str], None]) -> None:
        own, drafts = self._own_controller, self.drafter is not None
        costs = self.runner.warm_up(say, measure=own and costs_needed(self.config, drafts=drafts))
        if own:
            self.controller = make_controller(self.config, costs, drafts=drafts, steady=self.runner.steady)
            if isinstance(costs, PipelineCosts) and self.config.micro_batches is None:
                self.regrouping = Regrouping(copy.deepcopy(costs))

    def _make_runner(self, slots: int) -> ModelRunner:
        """A runner of so many slots, or of as many halvings of them as it takes to fit."""
        while True:
            try:
                runner = self._kind(self.target, self.drafter, self.config, slots)
                break
            except RuntimeError as error:
                reason = out_of_memory(error)
            slots = self._half(slots, reason)
            release(self.target.input_device)
        self.stats.max_sequences = slots
        return runner

    def _within_memory(self, step: Callable[[], _T]) -> _T | None:
        """Runs a step; when memory runs out, halves the slots instead and returns None. No sequence is lost."""
        try:
            with self.runner.entered():
                return step()
        except RuntimeError as error:
            reason = out_of_memory(error)
        # Outside of the handler: its traceback would keep the step's tensors alive.
        slots = self._half(self.runner.slots, reason)
        self._in_flight.clear()  # what they did is done again, to the same tokens
        self.scheduler.withdraw()
        self.runner.synchronize()
        del self.runner
        release(self.target.input_device)
        self.runner = self.scheduler.runner = self._make_runner(slots)
        return None

    def _half(self, slots: int, reason: str) -> int:
        if slots == 1:
            raise too_little_memory(self.config.max_length, reason)
        return slots // 2
