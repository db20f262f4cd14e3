"""What a spec names on this machine, looked at without a model's weights in memory: dataset, template, models, results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from specbatch.errors import DatasetError, ModelError, Problem, SpecbatchError, SpecError
from specbatch.formatting import pluralize

if TYPE_CHECKING:
    from specbatch.api.job import SpecBatchJob
    from specbatch.api.models import DrafterSpec, TargetSpec

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
_NOT_CHECKED = "not checked"


def check_inputs(job: SpecBatchJob, *, in_pods: bool) -> tuple[list[tuple[str, str]], list[SpecbatchError]]:
    """(label, what was found) for each input, and everything wrong.

    Args:
        job: a valid spec.
        in_pods: whether it runs elsewhere: absolute paths and the hub's cache are the pods' then.
    """
    found, wrong = list[tuple[str, str]](), list[SpecbatchError]()
    for label, check in _checks(job, in_pods=in_pods):
        try:
            found.append((label, check()))
        except SpecbatchError as error:
            wrong.append(error)
    return found, wrong


def _checks(job: SpecBatchJob, *, in_pods: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    spec = job.spec
    yield "target", lambda: _model(spec.target, "target", spec.engine.name, in_pods=in_pods)
    drafter = spec.drafter
    if drafter is not None and drafter.model is not None:
        yield "drafter", lambda: _model(drafter, "drafter", spec.engine.name, in_pods=in_pods)
    elif drafter is not None and drafter.method == "mtp":
        yield "drafter", lambda: _own_layer(spec.target, in_pods=in_pods)
    yield "dataset", lambda: _dataset(job, in_pods=in_pods)
    template = spec.dataset.chat_template_file
    if template is not None and not (in_pods and template.startswith("/")):
        yield "template", lambda: _template(template)
    if not in_pods:
        yield "results", lambda: _results(job)


def _model(asked: TargetSpec | DrafterSpec, role: str, engine: str, *, in_pods: bool) -> str:
    from specbatch.plan.engine_choice import check_layers, why_not
    from specbatch.plan.shapes.model_dir import EMBEDDED, is_hub_id, resolve_model_dir
    from specbatch.plan.shapes.read_shape import read_shape
    from specbatch.plan.shapes.weight_files import check_weight_files, is_complete

    name = asked.model
    assert name is not None
    if name.startswith(EMBEDDED):
        return f"{name}, in the package"
    if in_pods:
        what = "of the hub" if is_hub_id(name) else "a path of the pods"
        return f"{name}, {what}: {_NOT_CHECKED} from here"
    path = resolve_model_dir(name, asked.revision)
    if path is None or (path.parent.name == "snapshots" and not is_complete(path)):
        beside = Path(name).parent  # of models/qwen: a folder was meant
        missing = (
            f"not in {beside.absolute()}, so an id of the hub" if "/" in name and beside.is_dir() else "of the hub"
        )
        return f"{name}, {missing}: {_NOT_CHECKED}, since its files are not on this machine (specbatch fetch gets them)"
    check_weight_files(path, name)
    drafting, quantization = role == "drafter", getattr(asked, "quantization", None)  # a drafter's alone
    shape = read_shape(name, asked.revision, asked.dtype, drafting=drafting, quantization=quantization)
    if engine == "native":
        check_layers(role, shape)
    if role == "target" and path.is_dir() and not any((path / file).is_file() for file in _TOKENIZERS):
        raise ModelError(
            f"the folder {path.absolute()} holds no tokenizer",
            where=f"spec.{role}.model {name}",
            remedy="put tokenizer.json and tokenizer_config.json beside the weights",
        )
    found = f"{name}, complete on this machine"
    return f"{found}; it has {why}, so that vLLM alone runs it" if (why := why_not(shape)) else found


def _own_layer(target: TargetSpec, *, in_pods: bool) -> str:
    """Whether the target brings a layer that drafts here, by its config.json alone; what is wrong with that, the target's check says."""
    from specbatch.plan.shapes.eagle3_shape import mtp_shape
    from specbatch.plan.shapes.model_dir import EMBEDDED
    from specbatch.plan.shapes.read_shape import read_shape

    name = target.model
    if in_pods and not name.startswith(EMBEDDED):
        return f"the MTP layer of {name}: {_NOT_CHECKED} from here"
    try:
        shape = read_shape(name, target.revision, target.dtype)
    except ModelError:
        return f"the MTP layer of {name}: {_NOT_CHECKED}"
    return mtp_shape(shape).name


def _dataset(job: SpecBatchJob, *, in_pods: bool) -> str:
    from specbatch.runner.dataset.sources import is_here, is_remote
    from specbatch.runner.peek.encoding import Encoding
    from specbatch.runner.peek.peek import peek

    spec = job.spec.dataset
    if is_remote(spec.uri):
        return f"{spec.uri}, in a store: {_NOT_CHECKED}"
    mounts = [str(PurePosixPath(volume.mount_path)) for volume in job.spec.job.volumes.all().values()]
    if not is_here(spec.uri) and spec.uri.startswith("/"):
        on_volume = any(PurePosixPath(spec.uri).is_relative_to(mount) for mount in mounts)
        if in_pods or on_volume:
            return f"{spec.uri}, {'on a volume' if on_volume else 'a path'} of the pods: {_NOT_CHECKED} from here"
    found = peek(job.spec, Encoding(None, "", job.spec.target), 0)
    if found.problem is not None:
        raise found.problem
    rows = pluralize(found.looked_at, "row")
    said = f"{spec.uri}, {found.kind}, prompts from {found.prompts}"
    if found.refused:
        first = found.refused[0]
        message = f"{len(found.refused):,} of the first {rows} would be refused: {first.message} (line {first.line})"
        if len(found.refused) == found.looked_at:
            remedy = "specbatch peek shows the rows; dataset.promptField and dataset.template say where the prompt is"
            raise DatasetError(message, where=f"spec.dataset.uri {spec.uri}", remedy=remedy)
        said += f"; {message}"
    else:
        said += f"; none of the first {rows} would be refused"
    return "; ".join(part for part in (said, found.left_out) if part)


def _template(file: str) -> str:
    try:
        Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        path = Path(file).expanduser().absolute()
        problem = Problem(
            "spec.dataset.chatTemplate", f"{path} cannot be read: {reason}", 'name a file, "auto" or "none"'
        )
        raise SpecError([problem], source="chat template") from None
    return file


def _results(job: SpecBatchJob) -> str:
    folder = Path(job.spec.results.dir).expanduser().absolute()
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    if not standing.is_dir():
        problem = Problem("spec.results.dir", f"{standing} is a file", "name a folder, which need not exist yet")
        raise SpecError([problem], source="results")
    return f"{folder / job.results_name}"
