"""Loads vLLM's engines, one a replica. The only module that imports vLLM."""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig
from vllm import EngineArgs, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine

from specbatch.engine.request import Request
from specbatch.errors import DeviceError, ModelError
from specbatch.plan.types import ReplicaPlan
from specbatch.runner.engine_set import EngineSet
from specbatch.runner.inputs import RunInputs
from specbatch.runner.replicas import EngineProtocol
from specbatch.runner.vllm.arguments import engine_arguments, num_speculative_tokens
from specbatch.runner.vllm.engine import VllmEngine, engine_errors
from specbatch.runner.vllm.sampling import sampling_arguments
from specbatch.runner.vllm.scores import LIKELIEST, VllmScores

# What gives the scores of the next token; logprobs_mode, an engine argument, makes them logits.
_SCORING = SamplingParams(temperature=0.0, max_tokens=1, logprobs=LIKELIEST, detokenize=False, ignore_eos=True)


def load_engines(inputs: RunInputs, say: Callable[[str], None]) -> EngineSet:
    """The engines of a run whose engine is vLLM.

    Raises:
        SpecError: an option is not one of vLLM's, or does not fit the placement.
        ModelError: vLLM cannot run the model, or a part of it.
        OutOfMemoryError: it does not fit.
        DeviceError: its engine does not start.
    """
    known = {one.name for one in dataclasses.fields(EngineArgs)}
    replicas = inputs.plan.replicas
    arguments = [engine_arguments(inputs, replica, known) for replica in replicas]  # all refusals before any load
    engines, loops, placement = list[EngineProtocol](), [], {}
    for number, (replica, chosen) in enumerate(zip(replicas, arguments, strict=True)):
        suffix = f"[{number}]" if len(replicas) > 1 else ""
        say(
            f"loading {inputs.pair.target.name} with vLLM {inputs.engine.version} onto {', '.join(replica.devices)}{suffix}"
        )
        loops.append(_load(inputs, replica, chosen, apart=len(replicas) > 1))
        slots = loops[-1].vllm_config.scheduler_config.max_num_seqs
        k = num_speculative_tokens(inputs.spec)
        engines.append(VllmEngine(loops[-1], _sampling_params, slots=slots, k=k, adapter=_adapter(inputs)))
        parallel = {f"{one} of {len(replica.devices)}": device for one, device in enumerate(replica.devices, start=1)}
        placement[f"target{suffix}"] = parallel
    _end_children_with_us()
    description = f"vLLM {inputs.engine.version}, {_described(arguments[0])}"
    say(f"engine: {description}")
    model = loops[0].vllm_config.model_config
    return EngineSet(
        engines,
        description,
        _eos_token_ids(inputs),
        model.dtype,
        placement,
        scores=lambda: VllmScores(loops[0], _SCORING, model.get_vocab_size(), _adapter(inputs)),
    )


def _load(inputs: RunInputs, replica: ReplicaPlan, arguments: Mapping[str, Any], *, apart: bool) -> LLMEngine:
    """One replica. In this process where it is the only one: it ends with it, and what kills it is known here."""
    gc.collect()  # an engine of before takes its process groups with it when it goes: not after ours are made
    try:
        with _environment(replica, apart=apart), warnings.catch_warnings(action="ignore"), engine_errors():
            loop = LLMEngine.from_engine_args(EngineArgs(**arguments), enable_multiprocessing=apart)
    except (ValueError, TypeError, DeviceError) as error:
        found = error.__cause__ if isinstance(error, DeviceError) else error
        if isinstance(found, torch.AcceleratorError) or apart:  # of a process apart the cause is not known here
            raise
        raise ModelError(
            f"vLLM does not load it: {_reason(found)}",
            where=inputs.pair.target.name,
            remedy="change what it names; spec.engine.options are vLLM's own arguments",
        ) from error
    return loop


def _end_children_with_us() -> None:
    """Processes of vLLM do not see a kill -9 of this one, and would hold their GPUs: another process waits for its end, and ends them."""
    handles = [os.pidfd_open(child.pid) for child in multiprocessing.active_children() if child.pid is not None]
    if handles:
        ending = "import signal, sys; sys.stdin.read(); [signal.pidfd_send_signal(int(one), 9) for one in sys.argv[1:]]"
        command = [sys.executable, "-c", ending, *map(str, handles)]
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        subprocess.Popen(command, stdin=pipe, stderr=null, pass_fds=handles, start_new_session=True)  # noqa: S603 - our own words
        for handle in handles:
            os.close(handle)


def _adapter(inputs: RunInputs) -> LoRARequest | None:
    adapter = inputs.pair.adapter
    return None if adapter is None else LoRARequest("adapter", 1, str(adapter.path))


def _sampling_params(request: Request) -> SamplingParams:
    """Tokens of rows with a stop check come as they are made; of others all at the end, which costs less."""
    kind = RequestOutputKind.FINAL_ONLY if request.stop is None else RequestOutputKind.DELTA
    return SamplingParams(**sampling_arguments(request), output_kind=kind)


@contextmanager
def _environment(replica: ReplicaPlan, *, apart: bool) -> Iterator[None]:
    """What vLLM reads from the environment while an engine starts; the GPUs of a process of its own are those of its replica."""
    changes = {"VLLM_ENABLE_V1_MULTIPROCESSING": str(int(apart))}
    if apart:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
        changes["CUDA_VISIBLE_DEVICES"] = ",".join(names[torch.device(device).index] for device in replica.devices)
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _eos_token_ids(inputs: RunInputs) -> frozenset[int]:
    """End-of-sequence tokens of the generation config, else of the config, as the native engine takes them."""
    path = inputs.pair.target.path
    try:
        ids = GenerationConfig.from_pretrained(path).eos_token_id
    except OSError:  # there is none
        ids = None
    if ids is None:
        config = AutoConfig.from_pretrained(path, trust_remote_code=inputs.pair.target.code)
        ids = config.get_text_config().eos_token_id
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


def _described(arguments: Mapping[str, Any]) -> str:
    """What is worth knowing of its arguments: "tensor_parallel_size 2, speculative_config draft_model k 4"."""
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "quantization")
    parts = [f"{name} {arguments[name]}" for name in sizes if arguments.get(name) not in {None, 1}]
    if speculative := arguments.get("speculative_config"):
        parts.append(f"drafts by {speculative['method']}, k {speculative['num_speculative_tokens']}")
    if arguments.get("enable_lora"):
        parts.append("with the adapter")
    return ", ".join(parts) or "target alone"


def _reason(error: BaseException | None) -> str:
    """The sentence of an error that may be one of pydantic's, whose second line has it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = next((line for line in lines if line.startswith("Value error, ")), lines[0] if lines else "no reason given")
    return found.removeprefix("Value error, ").partition(" [type=")[0]
