"""What rows' options cost in recorded rounds: each beside greedy rows without any, and rows with a schema beside free ones.

    python -m benchmarks.row_options [--target 8b] [--drafter 1.7b] [--k 0,2] [--rows 128] [--schema-rows 32] [--new 128]
    python -m benchmarks.row_options --k 2 --only schema --profile "with schemas"         where the host's time goes, line by line
    python -m benchmarks.row_options --device cpu --target tiny --drafter tiny --dtype float32 --rows 4 --schema-rows 4 --new 24

The pair and its known continuation are benchmarks.gpu's; `match` is the share of rows whose every token is right. Rows with a schema write
a few fields that the model did not choose, then a string in which it goes on as it likes (llguidance: the extra grammar). Each line is run
twice before it is timed: the first run compiles its steps, the second captures them.
"""

from __future__ import annotations

import argparse
import copy
import cProfile
import pstats
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.arguments import choices_of_k
from benchmarks.gpu import DTYPES, about_run
from benchmarks.gpu_lines import Line, Pair, Warmed, measure, warmed_engine
from benchmarks.inputs.synthetic import SHAPES, Order, build
from benchmarks.inputs.workloads import Rows, equal_lengths
from specbatch.api.structured import StructuredOutput
from specbatch.engine.general.model import CausalLM
from specbatch.engine.logits.grammar import Grammar
from specbatch.engine.logits.options import LogitsOptions, TokenBias
from specbatch.engine.request import Request, SamplingParams
from specbatch.runner.rows.grammars import GrammarCompiler, is_installed

SCHEMAS = 20
_END = 256
_OPTIONS: dict[str, LogitsOptions] = {
    "repetition penalty": LogitsOptions(repetition_penalty=1.1),
    "frequency penalty": LogitsOptions(frequency_penalty=0.5),
    "presence penalty": LogitsOptions(presence_penalty=0.5),
    "logit bias, 300 tokens": LogitsOptions(bias=tuple(TokenBias(token, -5.0) for token in range(300))),
    "bad words": LogitsOptions(bad_words=tuple((token, token) for token in range(20))),
    "min tokens": LogitsOptions(bias=(TokenBias(_END, float("-inf"), until=16),)),
    "no repeated 4-grams": LogitsOptions(no_repeat_ngram_size=4),
}
_ALL = LogitsOptions(
    tuple(TokenBias(token, -5.0) for token in range(300)), tuple((token, token) for token in range(20)), 1.1, 0.5, 0.5, 4, 0.05
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each option and k; 1 where a token is wrong."""
    asked = _arguments(argv)
    print("\n".join(f"{key}: {value}" for key, value in about_run(asked).items()), flush=True)
    order = Order(SHAPES[asked.target].vocab, asked.seed)
    place, dtype = {"": torch.device("cuda:0" if asked.device == "cuda" else "cpu")}, DTYPES[asked.dtype]
    target = build(SHAPES[asked.target], order.next, place, dtype, asked.seed)
    drafter = build(SHAPES[asked.drafter], order.agreeing(asked.acceptance), place, dtype, asked.seed + 1)
    pair = Pair(CausalLM(target), CausalLM(drafter), order)
    plain = equal_lengths(SHAPES[asked.target].vocab, asked.rows, 128, asked.new, seed=1)
    wrong = 0
    with warmed_engine(pair, [*asked.k, None], [plain]) as warmed:
        print(f"\nwarm-up {warmed.seconds:.0f} s; {asked.rows} rows of 128 tokens, {asked.new} new ones\n", flush=True)
        print(
            "| rows | k | tokens/s | of plain | ms a round | of plain | waited | acceptance | beside weights and KV, GB | match |\n"
            + "|---" * 10
            + "|"
        )
        for k in asked.k:
            wrong += _compare(pair, warmed, k, _chosen(_kinds(plain), asked.only), profiled=asked.profile)
            schemas = _chosen(_with_schemas(asked, plain), asked.only)
            wrong += _compare(pair, warmed, k, schemas, compares_text=False, profiled=asked.profile)
            if re.search(asked.only, "prompt log probabilities"):
                _score_prompts(warmed, k, plain)
    return int(wrong > 0)


def _kinds(plain: Rows) -> dict[str, Rows]:
    """The first is what the others are compared with, and stands at the end again."""
    drawn = SamplingParams(1.0)
    changed = {name: replace(plain, logits=options) for name, options in _OPTIONS.items()}
    return {
        "greedy": plain,
        **changed,
        "temperature 1": replace(plain, sampling=drawn),
        "min-p, temperature 1": replace(plain, sampling=drawn, logits=LogitsOptions(min_p=0.05)),
        "all, temperature 1": replace(plain, sampling=drawn, logits=_ALL),
        "5 log probabilities": replace(plain, top_logprobs=5),
        "greedy again": plain,
    }


def _with_schemas(asked: argparse.Namespace, plain: Rows) -> dict[str, Rows]:
    count = asked.schema_rows
    few = Rows(plain.prompts[:count], plain.new_tokens[:count], count)
    if not is_installed():
        print("| schemas: llguidance is not installed |", flush=True)
        return {}
    make = grammars(SHAPES[asked.target].vocab)
    return {f"{count} free": few, f"{count} with schemas": replace(few, grammar=make), f"{count}, every other with a schema": replace(few, grammar=lambda i: make(i) if i % 2 else None)}  # fmt: skip


def _chosen(kinds: dict[str, Rows], only: str) -> dict[str, Rows]:
    """Those whose name the expression is found in, and what they are compared with."""
    named = {name: rows for name, rows in kinds.items() if re.search(only, name)}
    return dict([next(iter(kinds.items()))]) | named if named else {}


def _compare(
    pair: Pair, warmed: Warmed, k: int, kinds: dict[str, Rows], *, compares_text: bool = True, profiled: str = ""
) -> int:
    """Prints the lines; how many have a wrong token."""
    base: Line | None = None
    wrong = 0
    for name, rows in kinds.items():
        for _ in range(2):  # steps run as they are the first time, and are captured the second
            measure(pair, warmed, k, [rows])
        line = measure(pair, warmed, k, [rows])
        base = base or line
        told = compares_text or rows.grammar is None
        wrong += told and line.match < 1.0
        memory = "-" if line.overhead_gb is None else f"{line.overhead_gb:.2f}"
        cells = (
            name, k, f"{line.tokens_per_second:,.0f}", f"{line.tokens_per_second / base.tokens_per_second:.3f}", f"{line.round_ms:.2f}",
            f"{base.round_ms / line.round_ms:.3f}", f"{line.waited:.2f}", f"{line.acceptance_rate:.3f}", memory, f"{line.match:.3f}" if told else "-",
        )  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        if profiled and profiled in name:
            profile = cProfile.Profile()
            profile.runcall(measure, pair, warmed, k, [rows])
            pstats.Stats(profile).sort_stats("tottime").print_stats(20)
    return wrong


def _score_prompts(warmed: Warmed, k: int, plain: Rows) -> None:
    """Prints how fast prompts are scored, and how far from what rounds say of the same tokens: texts become the ends of prompts."""
    warmed.choose(k)
    lengths = [count // 2 for count in plain.new_tokens]
    rows = [Request(str(i), prompt, lengths[i], top_logprobs=5) for i, prompt in enumerate(plain.prompts)]
    said = {one.request.id: one for one in warmed.engine.generate(rows)}
    longer = {row.id: [*row.prompt_token_ids, *said[row.id].token_ids] for row in rows}
    # Forwards as they are, then captured, then as they are used; and without the head.
    for most in (5, 5, 5, None, None):
        start = time.perf_counter()
        asked = [Request(name, tokens, 1, prompt_logprobs=most) for name, tokens in longer.items()]
        scored = {one.request.id: one for one in warmed.engine.generate(asked)}
        rate = sum(map(len, longer.values())) / (time.perf_counter() - start)
        apart = [
            abs(one.logprob - other.logprob)
            for name, found in scored.items()
            for one, other in zip((found.prompt_logprobs or ())[-lengths[int(name)] :], said[name].logprobs or (), strict=True)
        ] if most is not None else []  # fmt: skip
        told = f", at most {max(apart):.3f} from those of rounds, of {len(apart):,} tokens" if apart else ""
        print(f"prompt log probabilities {most}: {rate:,.0f} tokens/s{told}", flush=True)


def grammars(vocab: int) -> Callable[[int], Grammar]:
    """A grammar for each row, of 20 schemas, over a vocabulary of bytes, JSON's pieces and words."""
    compiler = GrammarCompiler(_tokenizer(vocab), vocab, [_END])
    made = [compiler.grammar(StructuredOutput(json_schema=schema(number))) for number in range(SCHEMAS)]
    return lambda row: copy.copy(made[row % SCHEMAS])


def schema(number: int) -> dict[str, Any]:
    """Enums, numbers, arrays and objects by the bits of the number, then a text."""
    parts: list[tuple[str, dict[str, Any]]] = [
        ("kind", {"enum": ["a", "bb", f"c{number}"]}),
        ("count", {"type": "integer", "minimum": 0, "maximum": 999}),
        ("tags", {"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 1, "maxItems": 3}),
        ("inner", {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}),
        ("either", {"anyOf": [{"type": "null"}, {"type": "boolean"}]}),
    ]  # fmt: skip
    properties = {name: part for bit, (name, part) in enumerate(parts) if number >> bit & 1} | {
        "text": {"type": "string"}
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    chance, letters, end = random.Random(0), "abcdefghijklmnopqrstuvwxyz", "</s>"
    names = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), end, '{"', '":', '",', 'Ġ"', '"}', "},", "[]"])
    while len(names) < vocab:
        names["Ġ" * chance.randint(0, 1) + "".join(chance.choices(letters, k=chance.randint(2, 9)))] = None
    backend = Tokenizer(models.BPE(vocab={name: token for token, name in enumerate(names)}, merges=[]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="8b", choices=list(SHAPES))
    parser.add_argument("--drafter", default="1.7b", choices=list(SHAPES))
    parser.add_argument("--acceptance", type=float, default=0.8, help="of each draft")
    parser.add_argument("--rows", type=int, default=128, help="with options, at once")
    parser.add_argument("--schema-rows", type=int, default=32, help="at once")
    parser.add_argument("--k", type=choices_of_k, default=[0, 2], help="tokens drafted a round")
    parser.add_argument("--new", type=int, default=128, help="tokens a row")
    parser.add_argument("--only", default="", help="lines in whose name this expression is found")
    parser.add_argument("--profile", default="", help="of lines whose name has these words one run more, by cProfile")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES))
    parser.add_argument("--seed", type=int, default=0, help="of weights and permutations")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
