"""What a head is trained on: prompts, and the target's own continuations of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbatch.engine.config import EngineConfig
from specbatch.engine.make_engine import make_engine
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.speculation import Speculation

if TYPE_CHECKING:
    from specbatch.engine.general.drafter import Drafter
    from specbatch.engine.general.model import CausalLM

_SEED = 1
_OWN_PROMPT = 96  # tokens, at the most, of a prompt that the target writes


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids; from `answer_at` on they are the target's."""

    tokens: list[int]
    answer_at: int


def read_prompts(source: str, target: CausalLM, tokenizer: Any) -> list[list[int]]:
    """Prompts as token ids, in the chat template where there is one.

    Args:
        source: a JSON lines file with a `prompt` in each line; `own:N`: the target writes N user turns itself, as it would go on after the
            template's beginning of one (Magpie, arXiv 2406.08464).
        target: for its own prompts.
        tokenizer: the target's.
    """
    kind, _, count = source.partition(":")
    if kind == "own" and count:
        return _own_prompts(int(count), target, tokenizer)
    texts = [json.loads(line)["prompt"] for line in Path(source).read_text(encoding="utf-8").splitlines() if line]
    return [_templated(text, tokenizer) for text in texts]


def task_rows(count: int, tokenizer: Any) -> list[Row]:
    """Training tasks of the embedded pair with their right answers, which are its target's own in 1,999 of 2,000."""
    from tools.embedded_pair.tasks import generate  # noqa: PLC0415 - of the embedded pair alone

    answers = {task.prompt: task.answer for task in generate(_SEED, count)}
    prompts = [_templated(prompt, tokenizer) for prompt in answers]
    ends = [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers.values()]
    return [Row([*a, *b, tokenizer.eos_token_id], len(a)) for a, b in zip(prompts, ends, strict=True)]


def answer(
    target: CausalLM, prompts: Sequence[Sequence[int]], *, new_tokens: int, temperature: float = 0.0, rows: int = 64
) -> list[Row]:
    """The target's continuations, up to its end of sequence or so many tokens."""
    engine = make_engine(target, None, _config(target, prompts, new_tokens, rows))
    requests = _requests(target, prompts, new_tokens, temperature)
    found = {done.request.id: done for done in engine.generate(requests)}
    return [Row([*prompt, *found[str(i)].token_ids], len(prompt)) for i, prompt in enumerate(prompts)]


def acceptance_length(
    target: CausalLM, drafter: Drafter, prompts: Sequence[Sequence[int]], k: int, new_tokens: int
) -> float:
    """Tokens a row gains in one forward of the target, greedy, at a fixed k."""
    config = _config(target, prompts, new_tokens, rows=8, speculation=Speculation.fixed(k))
    engine = make_engine(target, drafter, config)
    for _ in engine.generate(_requests(target, prompts, new_tokens, 0.0)):
        pass
    return engine.stats.mean_acceptance_length


def _config(
    target: CausalLM,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    rows: int,
    speculation: Speculation | None = None,
) -> EngineConfig:
    length = min(target.max_positions, max(map(len, prompts)) + new_tokens)
    return EngineConfig(rows, length, speculation or Speculation.fixed(0))


def _requests(target: CausalLM, prompts: Sequence[Sequence[int]], new_tokens: int, temperature: float) -> list[Request]:
    sampling = SamplingParams(temperature)
    return [
        Request(
            str(i), prompt, min(new_tokens, target.max_positions - len(prompt)), sampling, _SEED, target.eos_token_ids
        )
        for i, prompt in enumerate(prompts)
    ]


def _templated(text: str, tokenizer: Any) -> list[int]:
    if tokenizer.chat_template is None:
        return list(tokenizer(text)["input_ids"])
    turns = [{"role": "user", "content": text}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(whole, add_special_tokens=False)["input_ids"])


def _own_prompts(count: int, target: CausalLM, tokenizer: Any) -> list[list[int]]:
    mark = "\N{SECTION SIGN}"
    whole = tokenizer.apply_chat_template([{"role": "user", "content": mark}], tokenize=False)
    begin = tokenizer(whole.partition(mark)[0], add_special_tokens=False)["input_ids"]
    found = answer(target, [begin] * count, new_tokens=_OWN_PROMPT, temperature=1.0)
    texts = [tokenizer.decode(row.tokens[row.answer_at :], skip_special_tokens=True).strip() for row in found]
    return [_templated(text, tokenizer) for text in dict.fromkeys(texts) if text]
