"""Which sequences run and which wait: they are admitted, batched, preempted when KV runs out, and finished."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from specbatch.engine.config import EngineConfig
from specbatch.engine.model_runner import ModelRunner
from specbatch.engine.request import Completion, Request
from specbatch.engine.rounds import RoundOutput
from specbatch.engine.sequence import SequenceState
from specbatch.engine.speculation.controller import Controller
from specbatch.engine.stats import EngineStats

FEW_SLOTS = 16  # a sixteenth of the slots free: worth a prefill


class Scheduler:
    """The sequences of an engine.

    waiting: sequences without a slot, in their order
    running: sequences with one, the longest there first
    joined: tokens of sequences that took others' slots, since the engine last took that number
    drafting: whether the last round was to have drafts
    grammars: running sequences that have one

    Args:
        runner: that runs them.
        config: for max_length and what k may be.
        stats: of the engine.
    """

    def __init__(self, runner: ModelRunner, config: EngineConfig, stats: EngineStats) -> None:
        self.runner = runner
        self.config = config
        self.stats = stats
        self.waiting: deque[SequenceState] = deque()
        self.running: list[SequenceState] = []
        self.joined = 0
        self.drafting = False
        self.grammars = 0
        self._turn = 0  # the group that is asked first for a round

    def __bool__(self) -> bool:
        """Whether there is any sequence."""
        return bool(self.running or self.waiting)

    # -- admit -----------------------------------------------------------------------------------------------------------

    def refill(self, source: Iterator[Request]) -> None:
        """Waiting sequences take the free slots, and their prompts are prefilled; not a few tokens at a time.

        Args:
            source: asked for no more than there are slots for.
        """
        runner = self.runner
        free = runner.slots - len(self.running)
        exhausted = False
        with self.stats.timed("idle"):
            while len(self.waiting) < free and not exhausted:
                request = next(source, None)
                exhausted = request is None
                if request is not None:
                    self.waiting.append(self._admit(request))
        if not (free and self.waiting):
            return
        if self.running and not exhausted and free <= runner.slots // FEW_SLOTS:
            tokens = sum(runner.tokens_to_join(sequence) for sequence in self.waiting)
            if tokens < runner.prefill_chunk // 2:
                return
        # While many sequences decode, one forward's worth at a time: they must not wait for a whole batch of long prompts.
        limited, budget = len(self.running) > runner.slots // 2, runner.prefill_chunk
        room = runner.room(self.running, drafting=self.drafting)
        joining: list[SequenceState] = []
        for sequence in islice(self.waiting, free):
            budget -= runner.tokens_to_join(sequence) if limited else 0
            room -= runner.pages_to_join(sequence)
            if (joining and budget < 0) or (room < 0 and (joining or self.running)):
                break
            joining.append(sequence)
        if joining:
            self._join(joining)

    def _admit(self, request: Request) -> SequenceState:
        prompt, new, longest = len(request.prompt_token_ids), request.max_new_tokens, self.config.max_length
        assert prompt > 0, f"row {request.id}: an empty prompt"
        assert new > 0, f"row {request.id}: no new tokens asked for"
        assert prompt + new <= longest, f"row {request.id}: {prompt} + {new} tokens > max_length"
        self.stats.prompt_tokens += prompt
        return SequenceState(request)

    def _join(self, joining: list[SequenceState]) -> None:
        replacing = bool(self.running and self.stats.finished)
        rows_of = Counter(dict.fromkeys(range(self.runner.groups), 0))
        rows_of.update(sequence.group for sequence in self.running)
        for sequence in joining:
            sequence.group = min(rows_of, key=rows_of.__getitem__)
            rows_of[sequence.group] += 1
        computed = self.runner.prefill(joining)
        self.stats.prefill_tokens_saved += sum(sequence.length for sequence in joining) - computed
        if replacing:
            self.joined += computed
        for sequence in joining:
            self.waiting.popleft()  # only now: running out of memory in the prefill loses none
            self.running.append(sequence)
            self.grammars += sequence.request.grammar is not None
        self.stats.active = len(self.running)

    # -- batch -----------------------------------------------------------------------------------------------------------

    def batch(self, rounds_in_flight: int, group: int = 0) -> list[SequenceState]:
        """The sequences for a group's next round: not those that surely end in flight, and none if all may: to wait costs less than a round."""
        running = self.running if self.runner.groups == 1 else [s for s in self.running if s.group == group]
        chosen = [s for s in running if s.remaining > min(rounds_in_flight, s.in_flight)]
        if rounds_in_flight and all(s.remaining <= s.in_flight for s in chosen):
            return []
        return chosen

    def next_batch(self, rounds_of: Callable[[int], int]) -> list[SequenceState]:
        """Of the groups in turn, the first that has a round to launch.

        Args:
            rounds_of: how many a group has in flight.
        """
        groups, depth = self.runner.groups, self.runner.depth
        for group in ((self._turn + each) % groups for each in range(groups)):
            rounds = rounds_of(group)
            batch = self.batch(rounds, group) if rounds <= depth else []
            if batch:
                self._turn = group + 1
                return batch
        return []

    def regroup(self, groups: int) -> None:
        """Deals the sequences out to so many groups, as far as that goes to those of the drafter that each has. No round is in flight."""
        drafters, rows_of = self.runner.drafters, [0] * groups
        most = -(-len(self.running) // groups)
        for sequence in self.running:
            own = [g for g in range(sequence.group % drafters, groups, drafters) if rows_of[g] < most]
            sequence.group = min(own or range(groups), key=rows_of.__getitem__)
            rows_of[sequence.group] += 1
        self.runner.regroup(groups, self.running)

    def choose(self, controller: Controller, sequences: list[SequenceState]) -> tuple[int, list[SequenceState]]:
        """K, and the sequences to ask: of few those that the drafter knows best. The drafter has KV for what it is to draft."""
        runner = self.runner
        lags = runner.lags(sequences)
        k, few = controller.choose(len(sequences), sum(lags), sum(s.remaining for s in sequences))
        self.drafting = k > 0
        asked = sequences
        if few < len(sequences):
            by_lag = sorted(range(len(sequences)), key=lags.__getitem__)
            asked = [sequences[place] for place in by_lag[:few]]
        k = min(k, runner.max_drafts(len(asked)))
        if controller.is_adaptive:  # beyond where all sequences end nothing counts
            k = min(k, max(s.remaining - (s.in_flight > 0) for s in asked) - 1)
        return (k, asked) if k and runner.reserve_drafter(asked, k) else (0, sequences)

    # -- finish, preempt -------------------------------------------------------------------------------------------------

    def give_tokens(self, sequences: Sequence[SequenceState], output: RoundOutput, k: int) -> list[Completion]:
        """Hands sequences the tokens of a round; those that end leave, as completions."""
        ended: list[tuple[SequenceState, Completion, bool]] = []
        for place, sequence in enumerate(sequences):
            sequence.rounds += 1
            sequence.drafted += output.drafted[place]
            sequence.accepted += output.accepted[place]
            before, sound = len(sequence.token_ids), output.finite[place]
            tokens = output.tokens[place][:sound]  # a row that ends there never comes to what is behind
            logprobs = output.logprobs[place] if output.logprobs is not None else ()
            reason = sequence.extend(tokens, logprobs) if tokens else None
            self.stats.emitted += len(sequence.token_ids) - before
            if reason is None and len(tokens) <= output.accepted[place]:
                ended.append((sequence, sequence.complete("error", _why_no_token(sequence)), True))
            elif reason is not None:
                ended.append((sequence, sequence.complete(reason), sound <= output.drafted[place]))
        self.runner.commit(sequences, k)
        if ended:
            self.runner.learn([sequence for sequence, completion, _ in ended if completion.finish_reason != "error"])
        # The last slot first: where slots have no gaps, no row moves into one that is freed next.
        for sequence, completion, poisoned in sorted(ended, key=lambda end: -end[0].slot):
            failed = completion.finish_reason == "error"
            self.stats.failed += failed
            self.stats.finished += not failed
            self._evict(sequence, poisoned=poisoned)
        return [completion for _, completion, _ in ended]

    def preempt(self, k: int) -> None:
        """The sequences that joined last go back to waiting, until the others have KV for a round of k drafts. None is in flight."""
        while len(self.running) > 1 and not self.runner.reserve(self.running, k):
            last = self.running[-1]  # it has the least to lose
            self.waiting.appendleft(last.waiting_again())
            self._evict(last)

    def evict_all(self) -> None:
        """No sequence is left, running or waiting."""
        for sequence in sorted(self.running, key=lambda s: -s.slot):  # the last slot first: nothing moves into it
            self._evict(sequence)
            self.runner.timer.take()  # of prefills that no round will tell of
        self.waiting.clear()
        self.joined = 0

    def withdraw(self) -> None:
        """All sequences wait, in their order, and the runner is let go: it has run out of memory."""
        for sequence in reversed(self.running):
            sequence.ended = True
            self.waiting.appendleft(sequence.waiting_again())
        self.running.clear()
        self.joined = self.grammars = 0
        del self.runner

    def _evict(self, sequence: SequenceState, *, poisoned: bool = False) -> None:
        sequence.ended = True
        self.running.remove(sequence)
        self.grammars -= sequence.request.grammar is not None
        self.runner.evict(sequence, poisoned=poisoned)
        self.stats.active = len(self.running)


def _why_no_token(sequence: SequenceState) -> str:
    """Of a row whose logits, as its options leave them, are not finite."""
    request = sequence.request
    if request.grammar is not None and request.grammar.error:
        return f"its grammar allows no further token: {request.grammar.error}"
    if request.processors:
        return "no token is left that its bans and its grammar allow, or the target's logits are not finite"
    return "the target's logits are not finite"
