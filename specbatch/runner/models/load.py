"""From the spec and the plan to loaded engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from specbatch.api.job import Spec
from specbatch.engine.config import EngineConfig
from specbatch.engine.engine import Engine
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.loading.eagle3 import load_eagle3, load_mtp
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.loading.vocabulary import check_vocabularies
from specbatch.engine.make_engine import describe, limit_rows, make_engine, why_general
from specbatch.engine.memory import loading_onto, release
from specbatch.engine.quantization.weight import Quantization
from specbatch.engine.request import SamplingParams
from specbatch.engine.speculation.depth import Speculation
from specbatch.engine.triton_support import KernelError
from specbatch.errors import DeviceError, VocabularyMismatchError
from specbatch.plan.device_map import compare_with_actual
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.shapes.read_shape import shape_in
from specbatch.plan.shapes.weight_files import weight_files
from specbatch.plan.types import ModelPlacement, Plan, ReplicaPlan
from specbatch.runner.display import seldom
from specbatch.runner.models.adapter import AdapterFiles, find_adapter
from specbatch.runner.models.counting import counter
from specbatch.runner.models.effects import check_fp8_kv, without_effect
from specbatch.runner.models.files import ModelFiles, find_model
from specbatch.runner.models.tokenizer import load_tokenizer


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of target and drafter; no drafter model with n-gram lookup, or with the target alone."""

    target: ModelFiles
    drafter: ModelFiles | None
    adapter: AdapterFiles | None = None

    @property
    def identity(self) -> dict[str, str]:
        """role -> name@revision."""
        models = {"target": self.target, "drafter": self.drafter, "adapter": self.adapter}
        return {role: files.identity for role, files in models.items() if files is not None}

    @property
    def text_files(self) -> dict[str, str]:
        """role/name -> hash of what decides on text beside the weights."""
        of_drafter = {} if self.drafter is None else self.drafter.text_files_of("drafter")
        return self.target.text_files_of("target") | of_drafter


def find_pair(spec: Spec, env: Mapping[str, str], say: Callable[[str], None]) -> Pair:
    """Finds both models, downloading what is not here.

    Raises:
        ModelError: see `find_model`.
    """
    adapter = find_adapter(spec.target.adapter) if spec.target.adapter is not None else None
    target = find_model(spec.target, "target", env=env, say=say)
    drafter = spec.drafter
    drafting = find_model(drafter, "drafter", env=env, say=say) if drafter and drafter.model else None
    return Pair(target, drafting, adapter)


def read_shapes(spec: Spec, pair: Pair) -> tuple[ModelShape, ModelShape | None]:
    """The shapes of both models, from their files."""
    target = shape_in(pair.target.path, pair.target.name, spec.target.dtype, counter())
    if pair.drafter is None or spec.drafter is None:
        return target, None
    drafter, asked = pair.drafter, spec.drafter
    return target, shape_in(
        drafter.path, drafter.name, asked.dtype, counter(), drafting=True, quantization=asked.quantization
    )


def load_shared_tokenizer(pair: Pair) -> PreTrainedTokenizerBase:
    """The target's tokenizer, once the drafter's is found to have the same vocabulary.

    A drafter without tokenizer files shares the target's by declaration; only the sizes can be compared, after loading.

    Raises:
        ModelError: a tokenizer is missing or broken.
        VocabularyMismatchError: they differ.
    """
    tokenizer = _tokenizer_of(pair.target)
    if pair.drafter is not None and pair.drafter.has_tokenizer:
        check_vocabularies(tokenizer.get_vocab(), _tokenizer_of(pair.drafter).get_vocab())
    return tokenizer


def _tokenizer_of(files: ModelFiles) -> PreTrainedTokenizerBase:
    return load_tokenizer(files.path, name=files.name, trust_remote_code=files.code)


def load_engines(spec: Spec, pair: Pair, plan: Plan, say: Callable[[str], None]) -> list[Engine]:
    """Loads one engine a replica, compares its devices with the plan, and warms it up.

    Raises:
        SpecError: KV in FP8 on GPUs that have no FP8.
        ModelError, DeviceError, OutOfMemoryError: as the engine's loading; also a placement that is not the plan's.
    """
    check_fp8_kv(spec, [device for replica in plan.replicas for device in replica.devices])
    engines = []
    names = " and ".join(files.name for files in (pair.target, pair.drafter) if files is not None)
    for number, replica in enumerate(plan.replicas):
        of_all = f" (replica {number + 1} of {len(plan.replicas)})" if len(plan.replicas) > 1 else ""
        say(f"loading {names} onto {', '.join(replica.devices)}{of_all}")
        with loading_onto(replica.devices, names):
            engine = _load_engine(spec, pair, plan, replica, say, first=number == 0)
        engines.append(engine)
    return engines


def _load_engine(
    spec: Spec, pair: Pair, plan: Plan, replica: ReplicaPlan, say: Callable[[str], None], *, first: bool
) -> Engine:
    target = _load(pair.target, replica.target, spec.target.dtype)
    target.fp8_kv = spec.target.kv_dtype == "fp8"
    drafter = _load_drafter(spec, pair, replica, target)
    engine = _make_engine(spec, plan, replica, target, drafter)
    if first:
        say(f"engine: {describe(engine)}")
        for warning in without_effect(spec, replica, engine):
            say(warning)
    if not _warmed_up(engine, say):
        del engine  # and with it the memory that the next one needs
        release(target.input_device)
        engine = _make_engine(spec, plan, replica, target, drafter)
        say(f"engine: {describe(engine)}")
        engine.warmup(seldom(say))
    return engine


def placements_of(engines: list[Engine]) -> dict[str, dict[str, str]]:
    """role (with its replica where there are several) -> parameter or buffer -> device, as read back."""
    placements = {}
    for number, engine in enumerate(engines):
        suffix = f"[{number}]" if len(engines) > 1 else ""
        placements[f"target{suffix}"] = engine.target.placement()
        if engine.drafter is not None and (of_drafter := engine.drafter.placement()):
            placements[f"drafter{suffix}"] = of_drafter
        more = engine.drafter.replicas if isinstance(engine.drafter, ModelDrafter) else ()
        placements |= {f"drafter {count}{suffix}": model.placement() for count, model in enumerate(more, 2)}
    return placements


def _warmed_up(engine: Engine, say: Callable[[str], None]) -> bool:
    """Whether the engine can run; False where its kernels turn out not to, and the general engine must."""
    try:
        engine.warmup(seldom(say))
    except KernelError:
        return False
    return True


def _make_engine(spec: Spec, plan: Plan, replica: ReplicaPlan, target: CausalLM, drafter: Drafter | None) -> Engine:
    limit_rows(target, drafter, plan.max_length)
    general = why_general(target, drafter) is not None  # the plan knows the shapes alone, and may have counted on pages
    decoding, groups = spec.decoding, spec.placement.micro_batches
    config = EngineConfig(
        max_sequences=plan.slot_sequences if general else plan.max_sequences,
        max_length=plan.max_length,
        speculation=Speculation(plan.speculation.max_k, is_adaptive=plan.speculation.is_adaptive),
        acceptance_rule=decoding.acceptance_rule,
        sampling=SamplingParams(decoding.temperature, decoding.top_k, decoding.top_p),
        kv_reserve=plan.kv_reserve,
        micro_batches=None if groups == "auto" or len(replica.devices) == 1 else groups,
        price_plain_rounds=True,
        drafter_window=spec.drafter.window if spec.drafter is not None else None,
    )
    return make_engine(target, drafter, config)


def _load_drafter(spec: Spec, pair: Pair, replica: ReplicaPlan, target: CausalLM) -> Drafter | None:
    if spec.drafter is None:
        return None
    if spec.drafter.method == "ngram":
        return NGramDrafter(spec.drafter.prompt_lookup_max, spec.drafter.prompt_lookup_min)
    if spec.drafter.method == "mtp" and replica.drafter is not None:
        own, device = pair.target, replica.drafter.devices[0]
        return load_mtp(own.path, weight_files(own.path, own.name), target, device=device, name=own.name)
    if pair.drafter is None or replica.drafter is None:  # the placement variables may leave the drafter out
        return None
    files = pair.drafter
    if files.is_eagle3:
        device, weights = replica.drafter.devices[0], weight_files(files.path, files.name)
        return load_eagle3(files.path, weights, target, device=device, dtype=spec.drafter.dtype, name=files.name)
    asked = spec.drafter.dtype, spec.drafter.quantization
    model, *replicas = (_load(files, placement, *asked) for placement in replica.drafters)
    if not pair.drafter.has_tokenizer and model.vocab_size != target.vocab_size:
        raise VocabularyMismatchError(
            f"the drafter has no tokenizer, and {model.vocab_size} tokens where the target has {target.vocab_size}",
            where="spec.drafter.model",
            remedy="use a drafter made for this target, or put its tokenizer beside its weights",
        )
    for each in (model, *replicas):
        each.fp8_kv = spec.drafter.kv_dtype == "fp8"
    return ModelDrafter(model, replicas=replicas)


def _load(
    files: ModelFiles, placement: ModelPlacement, dtype: str, quantization: Quantization | None = None
) -> CausalLM:
    model = load_causal_lm(
        str(files.path),
        device_map=placement.device_map,
        dtype=dtype,
        trust_remote_code=files.code,
        name=files.name,
        quantization=quantization,
    )
    differences = compare_with_actual(placement, model.placement())
    if differences:
        raise DeviceError(
            f"the loaded model is not where the plan puts it: {'; '.join(differences[:3])}",
            where=files.name,
            remedy="try strategy same or separate; please report this with the model's config.json",
        )
    return model
