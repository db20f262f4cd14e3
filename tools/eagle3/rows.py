"""What a head is trained on: prompts, and the target's own continuations of them."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbatch.engine.config import EngineConfig
from specbatch.engine.make_engine import make_engine
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.speculation.depth import Speculation
from specbatch.plan.gpus import cpu_shape
from tools.eagle3.prompts import templated

if TYPE_CHECKING:
    from specbatch.engine.engine import Engine
    from specbatch.engine.general.drafter import Drafter
    from specbatch.engine.general.model import CausalLM

_SEED = 1
_KV_SHARE = 0.25  # of a CPU's free memory
_OWN_TURN = 128  # tokens, at the most, of a prompt that the target writes
_REPORT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids; from `answer_at` on they are the target's."""

    tokens: list[int]
    answer_at: int

    @property
    def prompt(self) -> tuple[int, ...]:
        """What is answered."""
        return tuple(self.tokens[: self.answer_at])


class Answers:
    """The target, answering.

    Args:
        target: alone, without a drafter.
        max_length: prompt and answer, in tokens, at the most.
        rows: at once.
        minutes: for everything, a third of them for its own turns; what has not ended by then is left out.
    """

    def __init__(self, target: CausalLM, max_length: int, rows: int, minutes: float = math.inf) -> None:
        self._target = target
        self._max_length = min(max_length, target.max_positions)
        self._rows = rows
        self._began, self._seconds = time.perf_counter(), 60 * minutes

    def own(self, beginnings: Sequence[Sequence[int]]) -> dict[int, list[int]]:
        """How the target goes on from each, drawn; by their places."""
        return self._continued(beginnings, _OWN_TURN, [1.0], self._began + self._seconds / 3)

    def to(self, prompts: Iterable[Sequence[int]], new_tokens: int, temperatures: Sequence[float]) -> list[Row]:
        """Answers up to the target's end of sequence or so many tokens, at one temperature after the other.

        A prompt that leaves no room for its answer is left out.
        """
        fitting = [prompt for prompt in prompts if len(prompt) + new_tokens <= self._max_length]
        found = self._continued(fitting, new_tokens, temperatures, self._began + self._seconds)
        return [Row([*fitting[place], *tokens], len(fitting[place])) for place, tokens in sorted(found.items())]

    def _at_once(self, prompts: int) -> int:
        of, on_cpu = self._target.config, self._target.input_device.type == "cpu"
        width = getattr(of, "head_dim", None) or of.hidden_size // of.num_attention_heads
        heads = getattr(of, "num_key_value_heads", None) or of.num_attention_heads
        row_bytes = 2 * self._target.num_layers * heads * width * self._target.model.dtype.itemsize * self._max_length
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return bounded_rows(self._rows, prompts, row_bytes, min(free, cpu_shape().memory_bytes) if on_cpu else math.inf)

    def _continued(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, temperatures: Sequence[float], until: float
    ) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        if not prompts:
            return found
        rows = self._at_once(len(prompts))
        print(f"{len(prompts)} prompts, {rows} at once", flush=True)
        engine = make_engine(self._target, None, EngineConfig(rows, self._max_length, Speculation.fixed(0)))
        began = said = time.perf_counter()
        for done in engine.generate(_requests(self._target, prompts, new_tokens, temperatures)):
            found[int(done.request.id)] = list(done.token_ids)
            now = time.perf_counter()
            if now - said > _REPORT_SECONDS or len(found) == len(prompts) or now > until:
                said, tokens = now, sum(map(len, found.values()))
                print(f"{len(found)} of {len(prompts)} continued, {tokens / (now - began):.0f} tokens/s", flush=True)
            if now > until:
                break
        return found


def bounded_rows(asked: int, prompts: int, row_bytes: int, free_bytes: float) -> int:
    """Rows at once: no more than there are prompts, nor than KV for in a quarter of the free memory; one at the least."""
    return max(1, min(asked, prompts, int(min(free_bytes * _KV_SHARE, row_bytes * asked)) // row_bytes))


def task_rows(count: int, tokenizer: Any) -> list[Row]:
    """Training tasks of the embedded pair with their right answers, which are its target's own in 1,999 of 2,000."""
    from tools.embedded_pair.tasks import generate  # noqa: PLC0415 - of the embedded pair alone

    answers = {task.prompt: task.answer for task in generate(_SEED, count)}
    prompts = [templated(prompt, tokenizer) for prompt in answers]
    ends = [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers.values()]
    return [Row([*a, *b, tokenizer.eos_token_id], len(a)) for a, b in zip(prompts, ends, strict=True)]


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """One row a line: JSON."""
    lines = [json.dumps([row.answer_at, row.tokens], separators=(",", ":")) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """What write_rows wrote."""
    found = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Row(tokens, answer_at) for answer_at, tokens in found]


def acceptance_length(
    target: CausalLM, drafter: Drafter, prompts: Sequence[Sequence[int]], k: int, new_tokens: int
) -> float:
    """Tokens a row gains in one forward of the target, greedy, at a fixed k."""
    length = min(target.max_positions, max(map(len, prompts)) + new_tokens)
    engine: Engine = make_engine(target, drafter, EngineConfig(8, length, Speculation.fixed(k)))
    for _ in engine.generate(_requests(target, prompts, new_tokens, [0.0])):
        pass
    return engine.stats.mean_acceptance_length


def _requests(
    target: CausalLM, prompts: Sequence[Sequence[int]], new_tokens: int, temperatures: Sequence[float]
) -> list[Request]:
    return [
        Request(
            str(place),
            prompt,
            min(new_tokens, target.max_positions - len(prompt)),
            SamplingParams(temperature),
            _SEED,
            target.eos_token_ids,
        )
        for place, (prompt, temperature) in enumerate(zip(prompts, cycle(temperatures), strict=False))
    ]
