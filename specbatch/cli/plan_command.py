"""`specbatch plan`: what would go where, whether it fits, and how fast it could be. Needs no GPU, no weights, no network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from specbatch.cli.options import OutputOption, SetOption, SpecArgument
from specbatch.cli.output import show, show_json
from specbatch.errors import DeviceError, ExitCode, ResultsError

if TYPE_CHECKING:
    from specbatch.api import Spec, SpecBatchJob
    from specbatch.plan.measured import MeasuredRounds
    from specbatch.plan.types import GpuShape
    from specbatch.runner.peek.sharing import Sharing

_ASSUMED = "H100-80GB"
# Labels of nodes that name their GPU: NVIDIA's and AMD's operators, GKE, Karpenter on AWS.
_PRODUCT_LABELS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
)


def plan(
    file: SpecArgument,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="COUNTxPRODUCT",
            help="The GPUs of one pod, as you or nvidia-smi call them: 8xH100, 'NVIDIA A10G', 5090; any other as 4x96GB@3.3TB/s@900TF; several products as 2xA100-80GB,2xA100-40GB. The count may be left out; given, it overrides placement.gpus.",
        ),
    ] = None,
    acceptance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="The share of drafts accepted, assumed for the ceilings. Default: 0.8 (EAGLE-3: 0.7, n-gram: 0.3).",
        ),
    ] = None,
    mean_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="TOKENS",
            help="Tokens in the cache of an average row, assumed for the ceilings. Default: half of maxLength.",
        ),
    ] = None,
    measured: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="A run of the same models, a folder or URI, whose measured step times, acceptance and lengths give the figures in place of data sheets; none: no run. "
            "Default: the spec's own, results.dir/NAME, where it has ended.",
        ),
    ] = None,
    overrides: SetOption = None,
    output: OutputOption = "text",
) -> None:
    """Show what goes on which GPU, whether it fits, and how fast.

    The first lines say what to run: the spec as it is, or with which --set. Speeds are predictions: from data sheets, or from the step
    times of a run that has ended.

    Reads the models' config.json from a folder or the hub cache; well-known models need no files at all.
    Models of other families are counted by transformers, where it is installed, and estimated where not. TARGET_GPU, DRAFTER_GPU
    and the other placement variables count, as they do in the run. Of a dataset on this machine the first rows tell how much of
    the prompts is computed once, since rows begin alike.

    Example: specbatch plan job/qwen3-8b.yaml --gpus 8xH100-80GB

    Exit code 0 where it fits, 70 where it does not, 66 where no engine here can run a model.
    """
    from specbatch.api.loading.local_paths import load_spec_here
    from specbatch.plan.advice.render import render
    from specbatch.plan.engine_choice import choose_engine
    from specbatch.plan.planner import make_plan
    from specbatch.plan.shapes.read_shape import read_shape
    from specbatch.runner.models.counting import counter
    from specbatch.runner.peek.sample import sharing_here
    from specbatch.runner.vllm.installation import installed

    job = load_spec_here(file, [*(overrides or ()), *_count_override(gpus)])
    target, drafter = job.spec.target, job.spec.drafter
    count = counter()
    shape = read_shape(target.model, target.revision, target.dtype, count=count)
    drafter_shape = None
    if drafter and drafter.model:
        drafter_shape = read_shape(
            drafter.model,
            drafter.revision,
            drafter.dtype,
            count=count,
            drafting=True,
            quantization=drafter.quantization,
        )
    shapes, said = _gpu_shapes(job, gpus)
    rounds, said_of_run = _measured(job, measured)
    made = make_plan(
        job,
        shape,
        drafter_shape,
        shapes,
        os.environ,
        acceptance_rate=acceptance,
        mean_length=mean_length,
        measured=rounds,
    )
    models = {"target": shape} | ({"drafter": drafter_shape} if drafter_shape else {})
    sharing = sharing_here(job.spec, os.environ)
    engine = choose_engine(job.spec, models, installed())
    made = replace(made, notes=(*said, *said_of_run, *made.notes, str(engine), *_shared(sharing, job.spec)))
    if engine.cannot:
        made = made.as_refused(engine.cannot, f"{engine.remedy}; or {engine.otherwise}")
    if output == "json":
        show_json(made.to_dict() | {"shared_prompts": sharing and sharing.to_json()})
    else:
        show("\n".join(render(made)))
    if made.refused:
        raise typer.Exit(ExitCode.MODEL_MISSING)
    if not made.fits:
        raise typer.Exit(ExitCode.OUT_OF_MEMORY)


def _shared(sharing: Sharing | None, spec: Spec) -> list[str]:
    """A note about what prompts begin with alike, where they do."""
    if sharing is None or not sharing.shared:
        return []
    if spec.placement.gpus == 0 and spec.drafter is not None and spec.drafter.method in {"eagle3", "mtp"}:
        return ["prompts: rows begin alike, but on a CPU a head must be shown every token: each row computes its own"]
    return ["; ".join([f"prompts: {sharing.text}", *sharing.examples()])]


def _measured(job: SpecBatchJob, run: str | None) -> tuple[MeasuredRounds | None, list[str]]:
    """What a run has measured, and a note about it; nothing where the spec's own has not ended, or is another machine's."""
    from specbatch.results.layout import parse_names
    from specbatch.results.report.step_times import measured_rounds
    from specbatch.results.storage.folder import Folder

    if run == "none":
        return None, []
    folder = Folder(run or f"{job.spec.results.dir.rstrip('/')}/{job.metadata.name}")
    if run is None and not (folder.local and folder.local.is_dir() and parse_names(folder.sizes(), "manifest")):
        return None, []
    models = {"target": job.spec.target.model}
    if job.spec.drafter and job.spec.drafter.model:
        models["drafter"] = job.spec.drafter.model
    found = measured_rounds(folder, models)
    if isinstance(found, str) and run is None:
        return None, [f"the run in {folder.uri} gives no step times: {found}"]
    if isinstance(found, str):
        raise ResultsError(
            f"this run gives no step times: {found}", where=folder.uri, remedy="name another, or leave --measured out"
        )
    if found.gpu.is_cpu != (job.spec.placement.gpus == 0):
        return None, [
            f"the run in {folder.uri} was on {'a CPU' if found.gpu.is_cpu else 'GPUs'}: its step times are left out"
        ]
    note = (
        f"step times, acceptance and lengths are those of the run in {folder.uri} ({found.gpu.name}, {found.rows:,.0f} rows and k = {found.drafts:.1f} on average);"
        f" its prefill took {found.prefill_share:.0%} of the time, and is not in the figures"
    )
    return found, [note]


def _count_override(gpus: str | None) -> list[str]:
    """--gpus 8x... as an override of the spec, so that the spec's own rules judge it."""
    from specbatch.plan.gpus import counted, parse_gpus

    if gpus is None:
        return []
    try:
        parse_gpus(gpus)
    except DeviceError as error:  # a word on the command line, not a GPU that failed
        raise typer.BadParameter(f"{error.where or gpus}: {error.message}; {error.remedy}") from None
    count = counted(gpus)
    return [] if count is None else [f"spec.placement.gpus={count}"]


def _gpu_shapes(job: SpecBatchJob, gpus: str | None) -> tuple[Sequence[GpuShape], list[str]]:
    """The GPUs to plan for, and a note where their product is a guess."""
    from specbatch.plan.gpu_products import product_named
    from specbatch.plan.gpus import parse_gpus

    count = job.spec.placement.gpus
    if count == 0:
        return (), []
    if gpus:
        return parse_gpus(gpus, count), []
    selector = job.spec.job.node_selector
    label = next((selector[name] for name in _PRODUCT_LABELS if name in selector), "")
    product = product_named(label)
    if product:
        return (product,) * count, [f"GPUs: {product.name}, from spec.job.nodeSelector"]
    return parse_gpus(_ASSUMED, count), [
        f"GPUs: {_ASSUMED}, assumed; name yours with --gpus, for example --gpus A100-40GB"
    ]
