"""Kernels are compiled many at a time before they are launched: those of the steps that warm-up records, which leave no trace."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs import pair as pairs
from specbatch.engine.graphs.describe.description import AttentionKind
from specbatch.engine.graphs.drafters.paged import PagedDrafter
from specbatch.engine.graphs.precompile import go_through
from specbatch.engine.graphs.reference import Ahead, TorchOps
from specbatch.engine.graphs.stage import Stage
from specbatch.engine.graphs.verifier import Verifier
from specbatch.engine.request import SamplingParams
from tests.engine import architectures, tiny
from tests.engine.graphs import fast

PROGRAM = """
import json, sys, threading
import torch
from triton.runtime.jit import JITFunction
real = JITFunction.run
from tests.engine.graphs.compiled import compile_for
compile_for.compile_only(90)
JITFunction.run = real
from specbatch.engine.graphs.precompile import compiling_only
from specbatch.engine.graphs.kernels.linears.linear import linear_add, norm_linear

def work():
    for tokens in (1, 2, 3):
        x, residual, norm = (compile_for.tensor(*shape, dtype=torch.bfloat16) for shape in ((tokens, 64), (tokens, 64), (64,)))
        weight = compile_for.tensor(64, 64, dtype=torch.bfloat16)
        linear_add(x, weight, residual)
        if tokens == 1:
            norm_linear(x, norm, 1e-6, weight)

from triton.runtime import driver
built = []
driver.active.launcher_cls = lambda src, metadata: built.append(threading.get_ident())
threads, compile = [], JITFunction._do_compile
def noted(self, *args):
    threads.append(self.__name__)
    return compile(self, *args)
JITFunction._do_compile = noted
with compiling_only(2):
    work()
    work()
before = len(threads)
assert JITFunction.run is real
launched = []
def launch(self, *args, grid, warmup, **kwargs):
    launched.append(real(self, *args, grid=grid, warmup=True, **kwargs))
JITFunction.run = launch
work()
compiled = all(hasattr(kernel, "asm") for kernel in launched)
elsewhere = threading.get_ident() not in built
json.dump([before, len(threads) - before, len(launched), compiled, len(built), elsewhere], sys.stdout)
"""

ON_GPU = """
import json, sys
from triton.runtime.jit import JITFunction
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.graphs import warmup
from specbatch.engine.general.model import CausalLM
from tests.engine import architectures, tiny
from tests.engine.graphs import fast

names, compile, precompile = [], JITFunction._do_compile, warmup.precompile
def noted(self, *args):
    names.append(self.__name__)
    return compile(self, *args)
def counted(*args):
    precompile(*args)
    print(len(names))
    names.clear()
JITFunction._do_compile, warmup.precompile = noted, counted
model = tiny.qwen3()
target, drafter = (CausalLM(made.to("cuda").bfloat16()) for made in (model, tiny.noisy(model)))
fast.engine(target, ModelDrafter(drafter), max_sequences=8, max_speculative_tokens=4).warmup()
print(json.dumps(names))
"""


class Noted(TorchOps):
    """Notes what it is called with, but for the values and which layer it is."""

    def __init__(self):
        self.calls = set()

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        def noted(*args, **kwargs):
            self.calls.add((name, *map(kind, args), *((key, kind(value)) for key, value in kwargs.items())))
            out = found(*args, **kwargs)
            return (out[0], Ahead(*out[:1] * len(Ahead._fields))) if name == "linear_add_ahead" else out

        return noted


def kind(value):
    if isinstance(value, AttentionKind):
        return value
    return (tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else type(value)


def windowed():
    kinds = ["sliding_attention"] * 3 + ["full_attention", "sliding_attention"]
    return architectures.build("gemma3_text", num_hidden_layers=5, layer_types=kinds)


@pytest.mark.parametrize("drafts", ["model", "none", "windows"])
def test_few_layers_ask_for_all_that_all_layers_ask_for(monkeypatch, drafts):
    target = CausalLM(windowed() if drafts == "windows" else tiny.qwen3(layers=5))
    twin = CausalLM(tiny.qwen3(layers=4))
    calls = []
    for _ in ("few", "all"):
        noted = Noted()
        monkeypatch.setattr(pairs, "operations", lambda device, noted=noted: noted)
        engine = fast.engine(
            target, ModelDrafter(twin) if drafts == "model" else None, max_sequences=3, max_speculative_tokens=2
        )
        with torch.inference_mode():
            go_through(engine.runner.pair)
        calls.append(noted.calls)
        assert [len(stage.layers) for stage in engine.runner.pair.target.stages] == [5]
        monkeypatch.setattr(Stage, "shortened", nullcontext)
    assert calls[0] == calls[1]
    names = {name for name, *_ in calls[0]}
    if drafts == "windows":
        attended = [call[-1] for call in calls[0] if call[0] in ("rope_attend", "attend_packed")]
        assert {kind.window for kind in attended} == {0, architectures.WINDOW}
    else:
        assert {"norm_linear", "linear_add", "linear_add_ahead", "norm_gated", "rope_attend", "rope_write"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("k", [None, 0, 1, 2])
@pytest.mark.parametrize("drafts", [True, False], ids=["model", "none"])
def test_the_steps_that_are_gone_through_are_those_that_warm_up_records(pair, monkeypatch, drafts, k):
    ran = set()
    for kind, name in ((PagedDrafter, "draft_first"), (PagedDrafter, "draft_next"), (Verifier, "verify")):
        step = getattr(kind, name)

        def noted(self, capture, rows, *args, name=name, step=step):
            ran.add((name, rows, *args))
            step(self, capture, rows, *args)

        monkeypatch.setattr(kind, name, noted)
    sizes = {"max_sequences": 3, "max_speculative_tokens": 3, "num_speculative_tokens": k if drafts else None}
    engine = fast.engine(pair.target, pair.noisy if drafts else None, **sizes)
    with torch.inference_mode():
        go_through(engine.runner.pair)
    gone_through = set(ran)
    ran.clear()
    engine.warmup()
    assert gone_through == ran


@pytest.mark.parametrize("wanted", [None, False])
def test_rounds_that_read_shared_pages_together_are_gone_through_where_they_may_come(pair, monkeypatch, wanted):
    seen = []
    monkeypatch.setattr(Verifier, "verify", lambda self, capture, rows, k, mode: seen.append((rows, k, mode.cascade)))
    monkeypatch.setattr(PagedDrafter, "trace", lambda *_: None)
    sizes = {"max_sequences": 16, "num_speculative_tokens": 2, "cascade_attention": wanted}
    with torch.inference_mode():
        go_through(fast.engine(pair.target, pair.noisy, **sizes).runner.pair)
    together = [(rows, k) for rows, k, cascade in seen if cascade]
    assert together == ([] if wanted is False else [(16, 2), (16, 0)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("params", "rule"), [([SamplingParams()], "coupled"), (fast.MIXED, "rejection")], ids=["greedy", "mixed"]
)
@pytest.mark.parametrize("drafter", ["model", "ngram", "none"])
def test_rows_see_nothing_of_the_steps_that_were_gone_through(pair, drafter, params, rule):
    """Here the kernels' places are taken by operations that do write."""
    drafters = {"model": lambda: pair.noisy, "ngram": NGramDrafter, "none": lambda: None}
    sizes = {"max_sequences": 3, "num_speculative_tokens": 0 if drafter == "none" else 2}
    texts = []
    for gone_through in (False, True):
        engine = fast.engine(pair.target, drafters[drafter](), sampling=params[-1], acceptance_rule=rule, **sizes)
        if gone_through:
            with torch.inference_mode():
                go_through(engine.runner.pair)
        rows = fast.finish(engine, fast.requests(pair.prompts[:5], 12, params))
        texts.append({name: completion.token_ids for name, completion in rows.items()})
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_each_kernel_is_asked_for_once_and_is_there_when_it_is_launched(tmp_path):
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=False,
        capture_output=True,
        text=True,
        env={"TRITON_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    asked, again, launched, compiled, built, elsewhere = json.loads(done.stdout)
    assert (asked, again, launched, compiled) == (4, 0, 4, True)
    assert (built, elsewhere) == (4, True)


@pytest.mark.gpu
def test_warm_up_on_a_gpu_finds_its_kernels_compiled(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ON_GPU],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    ahead, at_launches = done.stdout.splitlines()[-2:]
    assert int(ahead) > 10
    assert json.loads(at_launches) == []
