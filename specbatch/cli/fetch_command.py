"""`specbatch fetch`: the models of a spec, brought to this machine or onto the models' claim of a cluster."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, with_cluster_options
from specbatch.cli.cluster.fetch_on_cluster import NOTHING_TO_FETCH, wait_for_fetch
from specbatch.cli.options import SetOption
from specbatch.cli.output import say, show
from specbatch.cli.sources import is_spec
from specbatch.errors import ModelError
from specbatch.formatting import format_bytes, pluralize
from specbatch.plan.shapes.model_dir import is_hub_id

if TYPE_CHECKING:
    from specbatch.api.job import SpecBatchJob
    from specbatch.plan.shapes.hub_model import HubModel
    from specbatch.runner.hub.fetch import Fetched

_STOPPED, _INTERRUPTED = 75, 130
_PATIENCE_SECONDS = 120.0
_ROLES = ("target", "drafter")


@with_cluster_options
def fetch(
    models: Annotated[
        list[str],
        typer.Argument(metavar="SPEC|MODEL...", help="A spec file, or hub ids such as Qwen/Qwen3-8B[@REVISION]."),
    ],
    *,
    overrides: SetOption = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="One model: its folder. A spec, or several models: a folder of each in DIR. Default: the hub's cache (HF_HOME).",
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Further files, such as '*Q4_K_M.gguf'. Repeatable."),
    ] = None,
    code: Annotated[bool, typer.Option("--code", help="Python files, too: for trustRemoteCode.")] = False,
    options: ClusterOptions,
) -> None:
    """Download target and drafter, checked and resumable.

    Only the files that a run needs are downloaded: safetensors, config, tokenizer, templates. Each is compared with the hub's sha256 or
    size. HF_ENDPOINT (a mirror), HF_TOKEN and HF_HOME apply. Stopped or killed, the same command goes on at the byte that it had reached.

    With -n, --context or --kubeconfig a Job of that cluster does it, without GPUs, into the volume of job.volumes.modelCache: its log is
    shown, Ctrl-C leaves it alone, and the same command attaches to it. With modelCache.readOnly: true pods then start offline.

    Example: specbatch fetch job/qwen3-8b.yaml

    Example: specbatch fetch job/qwen3-8b.yaml -n specbatch

    Example: specbatch fetch Qwen/Qwen3-8B --to models/qwen3-8b

    Exit codes: 0; 64 bad spec; 66 a model is missing, gated, or cannot be loaded; 68 the hub is out of reach for now; 74 no room or not
    writable; 75 stopped. On a cluster: 0 complete, 1 failed, 71 the cluster cannot be reached, or refuses.
    """
    from specbatch.plan.shapes.hub_model import hub_models

    job = _spec_of(models, overrides or (), options)
    wanted = _named(models, code=code, include=include or ()) if job is None else hub_models(job)
    if options.any_given:
        if job is None or to is not None or include or code:
            raise typer.BadParameter(
                "on a cluster a spec is fetched, whole, into its models' volume: fetch SPEC -n NAMESPACE"
            )
        wait_for_fetch(models[0], job, wanted, options)
        return
    wanted = {role: model for role, model in wanted.items() if not Path(model.name).is_dir()}
    if not wanted:
        show(NOTHING_TO_FETCH)
        return
    if job is not None and job.metadata.namespace is not None:
        say(f"onto this machine; -n {job.metadata.namespace} fetches onto the claim of the cluster")
    _need_the_library()
    with _stopped_at_once():
        done = _fetch_all(wanted, to, several=job is not None or len(models) > 1)
    show("\n".join(_summary(done, to)))


def _spec_of(models: list[str], overrides: Sequence[str], options: ClusterOptions) -> SpecBatchJob | None:
    """The spec, where the argument is a spec file."""
    from specbatch.api import load_spec

    if len(models) == 1 and (models[0] == "-" or is_spec(models[0])):
        namespace = [] if options.namespace is None else [f"metadata.namespace={json.dumps(options.namespace)}"]
        return load_spec(models[0], [*overrides, *namespace])
    if overrides:
        raise typer.BadParameter("changes a spec, and models are named", param_hint="--set")
    return None


def _named(models: list[str], *, code: bool, include: Sequence[str]) -> dict[str, HubModel]:
    from specbatch.plan.shapes.hub_model import HubModel

    found: dict[str, HubModel] = {}
    for text in models:
        name, _, revision = text.partition("@")
        if not is_hub_id(name):
            raise ModelError("is not a model of the hub", where=text, remedy="name a spec file, or a hub id such as Qwen/Qwen3-8B")  # fmt: skip
        found[name] = HubModel(name, revision or None, code=code, include=tuple(include))
    return found


def _need_the_library() -> None:
    try:
        import huggingface_hub  # noqa: F401 - only whether it is there
    except ImportError:
        remedy = "pip install 'specbatch[runner]', or pip install huggingface_hub"
        raise ModelError("huggingface_hub, which downloads models, is not installed", remedy=remedy) from None


def _fetch_all(wanted: dict[str, HubModel], to: Path | None, *, several: bool) -> dict[str, Fetched]:
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # public, and not in its __all__

    from specbatch.runner.hub.fetch import fetch_model
    from specbatch.runner.hub.progress import BarProgress, Progress

    disable_progress_bars()  # its own count files
    offline = constants.is_offline_mode()
    checked = "complete; not compared with the hub, by HF_HUB_OFFLINE" if offline else "complete and checked"
    done: dict[str, Fetched] = {}
    with BarProgress() if sys.stderr.isatty() else Progress(say) as progress:
        for role, model in wanted.items():
            folder = to if to is None or not several else to / model.name.rpartition("/")[2]
            one = fetch_model(model, progress=progress, to=folder, seconds=_PATIENCE_SECONDS)
            commit = f"@{one.commit[:12]}" if one.commit else ""
            progress.say(f"{model.name}{commit}: {pluralize(one.files, 'file')}, {format_bytes(one.size)}, {checked}")
            done[role] = one
    return done


def _summary(done: dict[str, Fetched], to: Path | None) -> list[str]:
    """Where the models are, and what a spec says to use them."""
    from huggingface_hub import constants

    total = format_bytes(sum(one.size for one in done.values()))
    if to is None:
        pins = [f"  {role}.revision: {one.commit}" for role, one in done.items() if role in _ROLES and one.commit and one.model.revision is None]  # fmt: skip
        pinned = ["to have the same text next year, pin what is here:", *pins] if pins else []
        return [f"{total} in the hub's cache, {constants.HF_HUB_CACHE}: specs that name these models find them there", *pinned]  # fmt: skip
    lines = [f"  {role}.model: {one.path}" if role in _ROLES else f"  model: {one.path}" for role, one in done.items()]
    return [f"{total} in {to}; in the spec:", *lines]


@contextmanager
def _stopped_at_once() -> Iterator[None]:
    """Signals end the process: threads that wait for a silent hub are not waited for, and what is here of a file stays."""

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        say("stopped; the same command goes on from there")
        os._exit(_STOPPED if number == signal.SIGTERM else _INTERRUPTED)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
