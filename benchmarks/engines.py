"""vLLM and the native engine on the same rows, side by side: one command, one table.

    python -m benchmarks.engines [job/qwen3-8b.yaml] [--rows 1,32,128] [--synthetic 8b,1.7b] [--option max_num_batched_tokens=8192] [--json FILE]

The models, dtypes and placement are the job's, the rows its dataset's prompts, each with a number before it: greedily, so many new tokens, past any
end of text. With `--synthetic` the models are a pair of those shapes with a designed acceptance, written to a temporary folder: nothing is downloaded. Each contestant (native and vLLM, the target alone and with the drafter) is a process of its own, with the whole memory of the GPU. They are driven
as a run drives them; loading and warm-up are left out. A case is repeated with other prompts, and its best repeat is shown. `same`: the share of its rows whose tokens are those
of the table's first contestant: in bfloat16 near ties fall either way. The last case is many rows that begin alike, fed as they leave.
A line is printed as it comes; the table follows, after an interrupt (Ctrl-C) that of the lines there are.

On a CPU, in the environment of `make vllm`, as a dry run:

    python -m benchmarks.engines job/quickstart.yaml --rows 1,4 --new 16 --shared-rows 12 --shared-tokens 64 --option enforce_eager=true
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads starve each other on busy cores

import torch
import yaml

from benchmarks.arguments import integers
from benchmarks.inputs.synthetic_files import write_pair
from specbatch.api import load_spec
from specbatch.engine.request import Request
from specbatch.runner.devices import visible_gpus
from specbatch.runner.engine_set import ready_engines
from specbatch.runner.inputs import RunInputs
from specbatch.runner.models.load import find_pair
from specbatch.runner.replicas import EngineProtocol

_CONTESTANTS = ("native", "native+drafter", "vllm", "vllm+drafter")
_COLUMNS = ("rows", "contestant", "tokens/s", "of the first", "accepted length", "same", "loading s")
_LONGEST = 256  # tokens of a row's own prompt


@dataclass(frozen=True, slots=True)
class Line:
    """One contestant with one case.

    tokens_per_second: of the best repeat
    accepted_length: tokens a row and forward of the target; of an older vLLM with a drafter, which counts none a row, by the engine's steps, prefill among them
    texts: the tokens of its rows, in the order of the rows
    """

    case: str
    contestant: str
    engine: str
    tokens_per_second: float
    accepted_length: float
    load_seconds: float
    texts: list[list[int]]


def prompts_of(inputs: RunInputs) -> Iterator[list[int]]:
    """The dataset's prompts, again and again, each of them another row by its number."""
    texts = [json.loads(line)["prompt"] for line in Path(inputs.spec.dataset.uri).read_text().splitlines()]
    for number in range(1 << 20):
        text = f"{number}. {texts[number % len(texts)]}"
        if inputs.template is not None:
            chat = [{"role": "user", "content": text}]
            settings = {"chat_template": inputs.template.text, "enable_thinking": False}
            text = inputs.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **settings)
        yield inputs.tokenizer.encode(text, add_special_tokens=False)[:_LONGEST]


def cases(asked: argparse.Namespace, inputs: RunInputs) -> Iterator[tuple[str, list[list[list[int]]]]]:
    """Each with the prompts of its repeats."""
    prompts = prompts_of(inputs)
    for rows in asked.rows:
        yield f"{rows:,}", [[next(prompts) for _ in range(rows)] for _ in range(asked.repeats)]
    if asked.shared_rows:
        document = [token for _ in range(asked.shared_tokens) for token in next(prompts)][: asked.shared_tokens]
        yield (
            f"{asked.shared_rows:,} that share {asked.shared_tokens:,}",
            [[[*document, *next(prompts)] for _ in range(asked.shared_rows)]],
        )


def measure(asked: argparse.Namespace, contestant: str) -> Iterator[Line]:
    """The lines of one contestant, in this process."""
    name, _, drafter = contestant.partition("+")
    longest = asked.shared_tokens + _LONGEST + asked.new + 64
    changes = [f"engine.name={name}", f"batching.maxSequences={max(asked.rows)}", f"batching.maxLength={longest}"]
    changes += ["decoding.temperature=0", "decoding.topP=1", "decoding.topK=0", f"decoding.maxNewTokens={asked.new}"]
    options = {option: yaml.safe_load(value) for option, _, value in (one.partition("=") for one in asked.option)}
    changes += [f"engine.options={json.dumps(options)}"] if name == "vllm" else []
    alone = [] if drafter else ["drafter=null", "decoding.numSpeculativeTokens=auto"]
    job = load_spec(asked.job, [*changes, *asked.set, *alone])
    say = lambda text: print(f"{contestant}: {text}", file=sys.stderr, flush=True)  # noqa: E731 - used twice
    began = time.perf_counter()
    gpus = visible_gpus(job.spec.placement.gpus, os.environ)
    inputs = RunInputs.of(job, find_pair(job.spec, os.environ, say), gpus, os.environ, few_threads=False, remedy="")
    ready = ready_engines(inputs, say)
    [engine] = ready.engines
    loading = time.perf_counter() - began
    for case, repeats in cases(asked, inputs):
        _decode(engine, [next(prompts_of(inputs))], 8)  # what a first round costs
        runs = [_decode(engine, prompts, asked.new) for prompts in repeats]
        texts, rounds = [tokens for _, rows, _ in runs for tokens in rows], sum(rounds for _, _, rounds in runs)
        length = sum(map(len, texts)) / max(1, rounds)
        yield Line(case, contestant, ready.description, max(speed for speed, _, _ in runs), length, loading, texts)


def _decode(engine: EngineProtocol, prompts: Sequence[list[int]], new: int) -> tuple[float, list[list[int]], int]:
    """tokens/s, each row's tokens, and the forwards of the target, summed over the rows in each."""
    requests = [Request(str(number), prompt, new) for number, prompt in enumerate(prompts)]
    before, start = engine.stats.row_rounds, time.perf_counter()
    ended = list(engine.generate(requests))
    seconds = time.perf_counter() - start
    found = {one.request.id: list(one.token_ids) for one in ended}
    texts = [found[request.id] for request in requests]
    rounds = sum(one.rounds for one in ended) or engine.stats.row_rounds - before
    return sum(map(len, texts)) / seconds, texts, rounds


def table(lines: Sequence[Line]) -> Iterator[str]:
    """By case, the contestants of each in their order."""
    yield "| " + " | ".join(_COLUMNS) + " |"
    yield "|---" * len(_COLUMNS) + "|"
    for case in dict.fromkeys(line.case for line in lines):
        found = [line for line in lines if line.case == case]
        first = found[0]
        for line in found:
            same = sum(a == b for a, b in zip(line.texts, first.texts, strict=True)) / len(first.texts)
            cells = [case, line.contestant, f"{line.tokens_per_second:,.0f}"]
            cells += [f"{line.tokens_per_second / first.tokens_per_second:.2f}", f"{line.accepted_length:.2f}"]
            yield "| " + " | ".join([*cells, f"{same:.3f}", f"{line.load_seconds:.0f}"]) + " |"


def arguments_of(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", default="job/qwen3-8b.yaml")
    parser.add_argument(
        "--contestants", default=",".join(_CONTESTANTS), help="of them, the first is what others are held to"
    )
    parser.add_argument("--rows", type=integers, default=[1, 32, 128], help="rows at once")
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shared-rows", type=int, default=2000, help="0 leaves the case out")
    parser.add_argument("--shared-tokens", type=int, default=1000)
    parser.add_argument(
        "--synthetic", help="shapes of inputs/synthetic.py, TARGET,DRAFTER: instead of the job's models"
    )
    parser.add_argument("--acceptance", type=float, default=0.8, help="of the synthetic drafter")
    parser.add_argument("--option", action="append", default=[], help="of engine.options: NAME=VALUE")
    parser.add_argument("--set", action="append", default=[], help="of the job: path=value")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--lines-of", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _synthetic_models(asked: argparse.Namespace, folder: Path) -> list[str]:
    """Arguments that name the pair, which is written here; its dtype is the job's target's."""
    if not asked.synthetic:
        return []
    shapes, dtype = asked.synthetic.split(","), load_spec(asked.job, asked.set).spec.target.dtype
    target, drafter = write_pair(folder, shapes[0], shapes[1], asked.acceptance, getattr(torch, dtype))
    torch.cuda.empty_cache()  # what wrote them stands beside the contestants
    return ["--set", f"target.model={target}", "--set", f"drafter.model={drafter}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 1 where a contestant failed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    asked = arguments_of(arguments)
    if asked.lines_of:
        for line in measure(asked, asked.lines_of):
            with asked.json.open("a") as file:  # at once: a contestant that fails later keeps it
                file.write(json.dumps(asdict(line)) + "\n")
            print(
                f"{line.case}: {line.contestant}: {line.tokens_per_second:,.0f} tokens/s", file=sys.stderr, flush=True
            )
        return 0
    lines, failed = list[Line](), 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.jsonl"
        command = [sys.executable, "-m", "benchmarks.engines", *arguments, *_synthetic_models(asked, Path(folder))]
        for contestant in asked.contestants.split(","):
            file.write_text("")
            own = ["--lines-of", contestant, "--json", str(file)]
            try:
                ended = subprocess.run([*command, *own], check=False).returncode  # noqa: S603 - itself
            except KeyboardInterrupt:  # the table of what there is
                ended = None
            lines += [Line(**json.loads(line)) for line in file.read_text().splitlines()]
            failed |= ended != 0
            if ended is None:
                break
    print("\n".join(table(lines)) if lines else "no contestant has a line")
    if asked.json:
        asked.json.write_text(json.dumps([{**asdict(line), "texts": None} for line in lines], indent=1))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
