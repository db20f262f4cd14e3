"""Rows' options on real models: penalties against transformers' generate, and texts with a schema against the masked target alone.

    python -m benchmarks.option_exactness --penalties [--rows 50] [--new 24] [--model models/smollm2]     after `make smollm2`
    python -m benchmarks.option_exactness --prompt-logprobs [--rows 16] [--model models/smollm2]          against plain forwards
    python -m benchmarks.option_exactness --schemas [--rows 1000]                                         on the embedded pair

Both in float32 on the CPU, in both engines. Of the rows with a schema every third is sampled; each block of rows has another k, 0 to 4, and
another rule. Greedy ones are compared with plain forwards, a mask and argmax; sampled ones under the coupled rule with the target alone.
The command ends with 1 where a row differs or a text is not what its schema says.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as benchmarks.cpu

import jsonschema
import numpy as np
import torch
import transformers
from transformers import AutoTokenizer

from benchmarks.cpu import SMOLLM2, chat_prompts, load
from benchmarks.inputs.schemas import SCHEMAS
from benchmarks.peers.contestants import Workload, transformers_generate
from specbatch.api.structured import StructuredOutput
from specbatch.embedded import path as embedded
from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.logits.grammar import GrammarRound
from specbatch.engine.logits.options import LogitsOptions, TokenBias
from specbatch.engine.make_engine import general_engine, graphs_engine
from specbatch.engine.request import AcceptanceRule, Completion, Request, SamplingParams
from specbatch.engine.speculation.depth import Speculation
from specbatch.runner.rows.grammars import GrammarCompiler


class CountPenalties:
    """OpenAI's frequency and presence penalty, which transformers has not: for generate, a row at a time."""

    def __init__(self, frequency: float, presence: float) -> None:
        self._frequency, self._presence = frequency, presence
        self._before, self._prompt = torch.empty(1, 0), 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of the next token, less what those of the text so far cost."""
        if not torch.equal(input_ids[:, :-1], self._before):  # another row begins
            self._prompt = input_ids.shape[1]
        self._before = input_ids
        counts = input_ids[0, self._prompt :].bincount(minlength=scores.shape[1])
        return scores - self._frequency * counts - self._presence * (counts > 0)


LONGEST = 400  # prompt tokens
_LONGEST_SCORED = 900
_ROUNDING = 1e-3
_SUPPRESSED = list(range(300, 3000, 7))
_FIRST = list(range(0, 1024, 2))
_WORDS = [[282, 260], [281, 260], [28, 284], [30, 378]]  # " of the", " in the", ", and", ". The" of SmolLM2's
PENALTIES: dict[str, tuple[LogitsOptions, dict[str, Any]]] = {
    "repetition_penalty 1.3": (LogitsOptions(repetition_penalty=1.3), {"repetition_penalty": 1.3}),
    "no_repeat_ngram_size 2": (LogitsOptions(no_repeat_ngram_size=2), {"no_repeat_ngram_size": 2}),
    "suppress_tokens": (
        LogitsOptions(bias=tuple(TokenBias(token, float("-inf")) for token in _SUPPRESSED)),
        {"suppress_tokens": _SUPPRESSED},
    ),
    "sequence_bias": (
        LogitsOptions(bias=(TokenBias(28, 4.0), TokenBias(284, -6.0))),
        {"sequence_bias": [[[28], 4.0], [[284], -6.0]]},
    ),
    "bad_words_ids": (LogitsOptions(bad_words=tuple(map(tuple, _WORDS))), {"bad_words_ids": _WORDS}),
    "begin_suppress_tokens": (
        LogitsOptions(bias=tuple(TokenBias(token, float("-inf"), until=1) for token in _FIRST)),
        {"begin_suppress_tokens": _FIRST},
    ),
    "frequency_penalty 0.8": (LogitsOptions(frequency_penalty=0.8), {"logits_processor": [CountPenalties(0.8, 0.0)]}),
    "presence_penalty 1.2": (LogitsOptions(presence_penalty=1.2), {"logits_processor": [CountPenalties(0.0, 1.2)]}),
}
_ENGINES = {"general": general_engine, "graphs": graphs_engine}
_RULES: tuple[AcceptanceRule, ...] = ("coupled", "rejection")
Block = tuple[str, int, AcceptanceRule]
BLOCKS: list[Block] = [(engine, k, rule) for k in range(5) for rule in _RULES for engine in _ENGINES]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line a comparison."""
    asked = _arguments(argv)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    wrong = penalties(asked.model, asked.rows or 50, asked.new) if asked.penalties else 0
    wrong += prompt_logprobs(asked.model, asked.rows or 16) if asked.prompt_logprobs else 0
    wrong += schemas(asked.rows or 1000) if asked.schemas else 0
    return int(wrong > 0)


def penalties(folder: Path, rows: int, new: int) -> int:
    """How many rows differ from transformers' generate."""
    files = ("job/prompts/spec_bench.jsonl", "job/prompts/quickstart.jsonl")
    every = [prompt for file in files for prompt in chat_prompts(folder / "target", file, rows)]
    prompts = [prompt for prompt in every if len(prompt) <= LONGEST][:rows]
    wrong, work, model = 0, Workload(prompts, new, frozenset(), 1, LONGEST + new), load(folder / "target")
    plain = transformers_generate(model)(work).tokens
    texts = {name: transformers_generate(model, **settings)(work).tokens for name, (_, settings) in PENALTIES.items()}
    target = CausalLM(model)  # generate is over: this gives it an attention of its own
    drafter = ModelDrafter(CausalLM(load(folder / "noisy-twin")))
    for name, (options, _) in PENALTIES.items():
        expected = texts[name]
        cells = [f"changes {sum(a != b for a, b in zip(plain, expected, strict=True))} of {len(prompts)} texts"]
        for engine, k in (("general", 3), ("graphs", 2)):
            requests = [Request(str(i), prompt, new, logits=options) for i, prompt in enumerate(prompts)]
            done = _decode(engine, target, drafter, requests, k, "coupled", LONGEST + new, 8)
            equal = sum(list(done[str(i)].token_ids) == row for i, row in enumerate(expected))
            wrong += len(prompts) - equal
            cells.append(f"{engine}, k {k}: {equal} equal")
        print(f"{name}: {'; '.join(cells)}", flush=True)
    return wrong


def prompt_logprobs(folder: Path, rows: int) -> int:
    """How many prompts' log probabilities are not those of a plain forward; the longest prompts are several stretches of a prefill."""
    model, most = load(folder / "target"), 5
    prompts = chat_prompts(folder / "target", "job/prompts/spec_bench.jsonl", 48)
    prompts = sorted((prompt for prompt in prompts if len(prompt) <= _LONGEST_SCORED), key=len)[-rows:]
    with torch.inference_mode():
        scores = [model(torch.tensor([prompt])).logits[0, :-1].log_softmax(-1) for prompt in prompts]
    target, wrong = CausalLM(model), 0
    for engine in _ENGINES:
        requests = [Request(str(i), prompt, 1, prompt_logprobs=most) for i, prompt in enumerate(prompts)]
        done, furthest, equal = (
            _decode(engine, target, None, requests, 0, max_length=_LONGEST_SCORED + 1, rows=4),
            0.0,
            0,
        )
        for i, expected in enumerate(scores):
            found = done[str(i)].prompt_logprobs or ()
            own = torch.tensor([one.logprob for one in found])
            apart = float((own - expected[range(len(found)), prompts[i][1:]]).abs().max())
            top = [[token for token, _ in one.top] for one in found]
            equal += apart < _ROUNDING and top == expected.topk(most).indices.tolist()
            furthest = max(furthest, apart)
        wrong += len(prompts) - equal
        tokens = sum(map(len, prompts))
        print(
            f"{engine}: {equal} of {len(prompts)} prompts, {tokens:,} tokens, at most {furthest:.1e} apart", flush=True
        )
    return wrong


def schemas(rows: int, blocks: Sequence[Block] = BLOCKS) -> int:
    """How many rows are not valid, or not the masked target's own; each twenty are of another block (engine, k, rule)."""
    folder = embedded("target")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, end = load(folder), int(tokenizer.eos_token_id)
    compiler = GrammarCompiler(tokenizer, len(tokenizer), [end])
    prompts = chat_prompts(folder, "job/prompts/quickstart.jsonl", 200)
    requests = [_request(i, prompts, compiler, end) for i in range(rows)]
    greedy = [request for request in requests if request.sampling.greedy]
    alone = {request.id: _alone(model, request) for request in greedy}
    target, drafter = CausalLM(model), ModelDrafter(CausalLM(load(embedded("drafter"))))
    coupled = [request for request in requests if not request.sampling.greedy]
    drawn = _decode("general", target, None, _anew(coupled), 0) if coupled else {}
    alone |= {name: list(one.token_ids) for name, one in drawn.items()}
    wrong = 0
    for number, (engine, k, rule) in enumerate(blocks):
        block = [request for i, request in enumerate(requests) if i // len(SCHEMAS) % len(blocks) == number]
        done = _decode(engine, target, drafter, _anew(block), k, rule)
        valid = equal = 0
        for request in block:
            tokens = list(done[request.id].token_ids)
            valid += done[request.id].finish_reason == "stop" and _is_valid(
                int(request.id), tokenizer.decode(tokens[:-1])
            )
            equal += tokens == alone[request.id] or (rule == "rejection" and not request.sampling.greedy)
        wrong += 2 * len(block) - valid - equal
        drafted = sum(one.drafted for one in done.values())
        share = sum(one.accepted for one in done.values()) / drafted if drafted else 0.0
        print(
            f"{engine}, k {k}, {rule}: {len(block)} rows, {valid} valid, {equal} as the target alone; acceptance {share:.2f}",
            flush=True,
        )
    return wrong


def _request(number: int, prompts: Sequence[Sequence[int]], compiler: GrammarCompiler, end: int) -> Request:
    """Every third of a schema's is sampled."""
    schema = SCHEMAS[number % len(SCHEMAS)]
    sampling = SamplingParams(0.9) if number // len(SCHEMAS) % 3 == 2 else SamplingParams()
    grammar = compiler.grammar(StructuredOutput(json_schema=schema))
    return Request(
        str(number), prompts[number % len(prompts)], 400, sampling, eos_token_ids=frozenset({end}), grammar=grammar
    )


def _anew(requests: Sequence[Request]) -> list[Request]:
    """With grammars at their beginning."""
    return [Request(r.id, r.prompt_token_ids, r.max_new_tokens, r.sampling, eos_token_ids=r.eos_token_ids, grammar=copy.copy(r.grammar)) for r in requests]  # fmt: skip


def _alone(model: Any, request: Request) -> list[int]:
    """Greedy, forward by forward, with transformers' cache."""
    grammar, tokens, cache = copy.copy(request.grammar), list[int](), None
    assert grammar is not None, "each has one"
    ids = torch.tensor([request.prompt_token_ids])
    while len(tokens) < request.max_new_tokens:
        with torch.inference_mode():
            out = model(ids, past_key_values=cache, use_cache=True)
        logits, cache = out.logits[0, -1], out.past_key_values
        asked = GrammarRound([grammar], len(logits))
        asked.fill(1, [[]])
        bits = np.unpackbits(asked.masks[0][0].numpy().view(np.uint8), bitorder="little")
        allowed = np.flatnonzero(bits[: len(logits)])
        tokens.append(int(allowed[logits.numpy()[allowed].argmax()]))
        if tokens[-1] in request.eos_token_ids:
            break
        grammar.commit(tokens[-1:])
        ids = torch.tensor([tokens[-1:]])
    return tokens


def _is_valid(number: int, text: str) -> bool:
    try:
        jsonschema.validate(json.loads(text), SCHEMAS[number % len(SCHEMAS)])
    except (ValueError, jsonschema.ValidationError) as error:
        print(f"row {number}: {text!r}: {error}")
        return False
    return True


def _decode(
    engine: str, target: CausalLM, drafter: Drafter | None, requests: Sequence[Request], k: int, rule: AcceptanceRule = "coupled",
    max_length: int = 1024, rows: int = 64,
) -> dict[str, Completion]:  # fmt: skip
    # What is captured at warm-up takes a CPU as long as it takes: few rows, short forwards of prefill.
    sizes: Any = {"acceptance_rule": rule, "graphs_prefill_chunk": 128}
    config = EngineConfig(min(rows, len(requests)), max_length, Speculation.fixed(k), **sizes)
    return {one.request.id: one for one in _ENGINES[engine](target, drafter, config).generate(requests)}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--penalties", action="store_true")
    parser.add_argument("--prompt-logprobs", action="store_true")
    parser.add_argument("--schemas", action="store_true")
    parser.add_argument(
        "--rows", type=int, help="default: 50 with penalties, 16 with prompt-logprobs, 1,000 with schemas"
    )
    parser.add_argument("--new", type=int, default=24, help="tokens of rows with penalties")
    parser.add_argument("--model", type=Path, default=SMOLLM2)
    return parser.parse_args(argv)


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sys.exit(main())
