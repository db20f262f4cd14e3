"""Which model runner a pair gets: captured rounds on a GPU where both models have the shape for it, else the general one."""

from __future__ import annotations

from functools import partial

from specbatch.engine.config import EngineConfig
from specbatch.engine.engine import Engine
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.eagle3 import Eagle3Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.general.runner import GeneralModelRunner
from specbatch.engine.graphs.describe.check import why_not
from specbatch.engine.graphs.ops import product_of_few
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.engine.triton_support import why_no_kernels

general_engine = partial(Engine, partial(GeneralModelRunner, product_on=product_of_few))
graphs_engine = partial(Engine, GraphModelRunner)


def limit_rows(target: CausalLM, drafter: Drafter | None, max_length: int) -> None:
    """Tells the models how long rows may be, on which hangs whether they fit the fast path: see CausalLM.limit_rows."""
    for model in (target, *(drafter.models if isinstance(drafter, ModelDrafter) else ())):
        model.limit_rows(max_length)


def why_general(target: CausalLM, drafter: Drafter | None) -> str | None:
    """What keeps a pair, whose rows are limited, on the general runner, in words; None if nothing does."""
    models: dict[str, tuple[CausalLM, ...]] = {"target": (target,)}
    if isinstance(drafter, ModelDrafter):
        models["drafter"] = drafter.models
    elif isinstance(drafter, Eagle3Drafter):
        if len({*target.placement().values(), str(drafter.head.device)}) > 1:
            return "an EAGLE-3 head has a fast path only on the GPU that holds the whole target"
    elif drafter is not None and not isinstance(drafter, NGramDrafter):
        return f"the drafter is a {type(drafter).__name__}"
    for role, model in [(role, model) for role, alike in models.items() for model in alike]:
        devices = {parameter.device.type for parameter in model.model.parameters()}
        if devices != {"cuda"}:
            return f"the {role} is not on GPUs"
        if (reason := why_not(model)) is not None:
            return f"the {role} has no fast path: {reason}"
    return why_no_kernels(target.input_device)


def describe(engine: Engine) -> str:
    """Which runner an engine has, on GPUs why the general one, and the rule of a rotary embedding that needs one for the run.

    "general, since the target has no fast path: ...; whole forwards as CUDA graphs; target: longrope's long factors for every row: ..."
    """
    chosen = "recorded rounds"
    if not isinstance(engine.runner, GraphModelRunner):
        reason = why_general(engine.target, engine.drafter)
        on_gpus = engine.target.input_device.type == "cuda"
        chosen = f"general, since {reason}" if on_gpus and reason is not None else "general"
        captures = engine.runner.captures if isinstance(engine.runner, GeneralModelRunner) else None
        chosen = f"{chosen}; {captures}" if captures else chosen
    models = {"target": engine.target}
    if isinstance(engine.drafter, ModelDrafter):
        models["drafter"] = engine.drafter.model
    rules = [f"{role}: {model.rope_rule}" for role, model in models.items() if model.rope_rule]
    kept = [role for role, model in models.items() if model.fp8_kv]
    return "; ".join([chosen, *rules, *([f"KV in FP8: {', '.join(kept)}"] if kept else [])])


def make_engine(target: CausalLM, drafter: Drafter | None, config: EngineConfig) -> Engine:
    """The engine with the faster runner of the two that can run the pair."""
    limit_rows(target, drafter, config.max_length)
    make = graphs_engine if why_general(target, drafter) is None else general_engine
    return make(target, drafter, config)
