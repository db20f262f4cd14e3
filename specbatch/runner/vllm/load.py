"""Loads vLLM's engines, one a replica. The only module that imports vLLM."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import finalize

import torch
from vllm import EngineArgs, SamplingParams, exceptions
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.llm_engine import LLMEngine

from specbatch.engine.request import Request
from specbatch.errors import DeviceError, ModelError
from specbatch.runner.engine_set import EngineSet
from specbatch.runner.inputs import RunInputs
from specbatch.runner.rows.grammars import described
from specbatch.runner.vllm.arguments import engine_arguments, num_speculative_tokens
from specbatch.runner.vllm.engine import VllmEngine, engine_errors, first_line
from specbatch.runner.vllm.processes import watch
from specbatch.runner.vllm.sampling import sampling_arguments
from specbatch.runner.vllm.scores import VllmScores

_GPUS = "CUDA_VISIBLE_DEVICES"
_REFUSALS = (
    ValueError,
    TypeError,
    *filter(None, [getattr(exceptions, "VLLMClientError", None)]),
)  # ValueErrors before 0.30


def load_engines(inputs: RunInputs, say: Callable[[str], None], *, scoring: bool = False) -> EngineSet:
    """The engines of a run whose engine is vLLM.

    Raises:
        SpecError: an option is not one of vLLM's, or does not fit the placement.
        ModelError: vLLM cannot run the model, or a part of it.
        OutOfMemoryError: it does not fit.
        DeviceError: its engine does not start.
    """
    known = {one.name for one in dataclasses.fields(EngineArgs)}
    replicas, name, version = inputs.plan.replicas, inputs.pair.target.name, inputs.engine.version
    # All refusals before any load.
    arguments = [engine_arguments(inputs, one, known, scoring=scoring) for one in replicas]
    k, adapter, apart = num_speculative_tokens(inputs.spec), inputs.pair.adapter, len(replicas) > 1
    lora = None if adapter is None else LoRARequest("adapter", 1, str(adapter.path))
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(apart))
    visible = os.environ.get(_GPUS) or ",".join(map(str, range(torch.cuda.device_count())))
    sampling = partial(_sampling_params, drafts=k > 0, on_cpu=inputs.spec.placement.gpus == 0)
    engines, loops, placement = list[VllmEngine](), [], {}
    with TemporaryDirectory() as folder:
        tokenizer = _tokenizer(inputs, Path(folder))
        for number, (replica, chosen) in enumerate(zip(replicas, arguments, strict=True)):
            suffix, devices = f"[{number}]" if apart else "", replica.devices
            say(f"loading {name} with vLLM {version} onto {', '.join(devices)}{suffix}")
            if apart:  # a process of its own sees the GPUs of its replica
                os.environ[_GPUS] = ",".join(visible.split(",")[torch.device(device).index] for device in devices)
            loops.append(_load(name, chosen | tokenizer, apart=apart))
            slots = loops[-1].vllm_config.scheduler_config.max_num_seqs
            engines.append(VllmEngine(loops[-1], sampling, slots=slots, k=k, adapter=lora, refusals=_REFUSALS))
            # vLLM's processes would stay, with their GPUs, as long as this one; at its exit they end by themselves.
            finalize(engines[-1], loops[-1].engine_core.shutdown).atexit = False
            placement[f"target{suffix}"] = {f"{one} of {len(devices)}": device for one, device in enumerate(devices, 1)}
    if apart:
        os.environ[_GPUS] = visible
    watch(loops)
    description = f"vLLM {version}, {_described(arguments[0])}"
    say(f"engine: {description}")
    model = loops[0].vllm_config.model_config
    scores = partial(VllmScores, engines[0], model.get_vocab_size())
    return EngineSet([*engines], description, frozenset(inputs.eos_token_ids), model.dtype, placement, scores=scores)


def _load(name: str, arguments: Mapping[str, Any], *, apart: bool) -> LLMEngine:
    """One replica. In this process where it is the only one: it ends with it, and what kills it is known here.

    What the spec leaves open is as in vLLM's class for batches: by its context alone vLLM lets 16,384 tokens into a step, not 2,048.
    """
    gc.collect()  # an engine of before takes its process groups with it when it goes: not after ours are made
    try:
        with warnings.catch_warnings(action="ignore"), engine_errors(*_REFUSALS, ImportError):
            return LLMEngine.from_engine_args(
                EngineArgs(**arguments), UsageContext.LLM_CLASS, enable_multiprocessing=apart
            )
    except (*_REFUSALS, DeviceError) as error:
        cause = error.__cause__ if isinstance(error, DeviceError) and error.__cause__ else error
        if cause is not error and (apart or isinstance(cause, torch.AcceleratorError)):
            raise  # of a process apart the cause is not known here
        said = f"vLLM does not load it: {first_line(cause)}"
        remedy = "change what it names; spec.engine.options are vLLM's own arguments"
        raise ModelError(said, where=name, remedy=remedy) from error


def _tokenizer(inputs: RunInputs, folder: Path) -> dict[str, str]:
    """The one that grammars are compiled with, where it is not the model's as it is: read while the engine starts."""
    tokenizer = inputs.tokenizer
    if not tokenizer.is_fast:
        return {}
    meant, stored = json.loads(described(tokenizer)), json.loads(tokenizer.backend_tokenizer.to_str())
    if meant["decoder"] == stored["decoder"]:
        return {}
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(meant))
    if (config := inputs.pair.target.path / "config.json").is_file():  # vLLM looks for one
        shutil.copy(config, folder)
    return {"tokenizer": str(folder)}


def _sampling_params(request: Request, **engine: bool) -> SamplingParams:
    """Tokens of rows with a stop check come as they are made; of others all at the end, which costs less."""
    arguments = sampling_arguments(request, **engine)
    if arguments["structured_outputs"] is not None:
        arguments["structured_outputs"] = StructuredOutputsParams(**arguments["structured_outputs"])
    kind = RequestOutputKind.FINAL_ONLY if request.stop is None else RequestOutputKind.DELTA
    return SamplingParams(**arguments, output_kind=kind)


def _described(arguments: Mapping[str, Any]) -> str:
    """What is worth knowing of its arguments: "drafts by draft_model, k 4"."""
    drafts = arguments.get("speculative_config")
    how = f"drafts by {drafts['method']}, k {drafts['num_speculative_tokens']}" if drafts else "target alone"
    return f"{how}, with the adapter" if arguments.get("enable_lora") else how
