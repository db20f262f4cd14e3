"""Collecting a run: every file checked against its manifest, shards joined, input order restored, what is missing named."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from specbatch.errors import ResultsError
from specbatch.results.collect.beside import Input
from specbatch.results.collect.columns import ColumnKinds
from specbatch.results.collect.export import ExportPlan
from specbatch.results.collect.formats import ExportFormat, form_of
from specbatch.results.collect.join import Gaps, Join, is_error_rank, rank_of
from specbatch.results.collect.join_outputs import JoinOutputs
from specbatch.results.collect.output import Output, explained
from specbatch.results.collect.outputs import Outputs
from specbatch.results.collect.result_table import carried_of
from specbatch.results.collect.row_files import FileReader
from specbatch.results.collect.run import FoundRun, find_run
from specbatch.results.identity import Identity
from specbatch.results.layout import REPORT, SUCCESS, ShardFile
from specbatch.results.rows import OpenAIForm
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.sorting import MEMORY_BYTES, LineSorter
from specbatch.results.totals import Totals
from specbatch.results.wire import decode_result, encode_json

OpenInput = Callable[[Identity | None], Input]
"""From what the run is to its dataset."""
NameRows = Callable[[Identity | None, Iterable[int]], Iterator[tuple[int, str | None]]]
"""From what the run is and ascending indices to (index, id) of each; None for an id that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was collected, or would have been.

    Attributes:
        source: the run's folder, as given.
        shards: into how many the run is split.
        dataset_rows: rows of the whole dataset; None where no manifest knows.
        unfinished: a sentence for each thing that says the run is not complete.
        read: whether the files were read. An unfinished run is not, unless `partial` or `missing` asks for it; then the counts
            below come from the manifests, and nothing is known of single rows.
        files, bytes: read and checked.
        unlisted: files among them that no manifest lists (partial only).
        torn: broken lines skipped at the end of those.
        results: result rows that went out.
        errors: code -> error rows.
        duplicates: rows left out because they were there twice.
        missing: rows that are neither in results nor in errors; at least so many where `dataset_rows` is None.
        first_missing: the indices of the first few.
        written: what was written, with what is in it.
    """

    source: str
    shards: int
    dataset_rows: int | None
    unfinished: Sequence[str]
    read: bool = True
    files: int = 0
    bytes: int = 0
    unlisted: int = 0
    torn: int = 0
    results: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    missing: int = 0
    first_missing: Sequence[int] = ()
    written: Sequence[tuple[str, Path | str]] = ()

    @property
    def complete(self) -> bool:
        """Whether every row of the dataset is there."""
        return not self.unfinished and not self.missing

    @property
    def rows(self) -> int:
        """Results and errors."""
        return self.results + sum(self.errors.values())


def collect(
    source: str | Path,
    out: Path | BinaryIO,
    *,
    form: ExportFormat | None = None,
    errors: Path | None = None,
    missing: Path | None = None,
    partial: bool = False,
    tmp: Path | None = None,
    name_rows: NameRows | None = None,
    open_input: OpenInput | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Collected:
    """Writes the rows of a run in input order, each once, after every file was found to be what its manifest says.

    An incomplete run is written with `partial` only; otherwise nothing is, but `missing` where it is given. Files are replaced in
    one step, and `out` last. Memory does not grow with the rows; temporary files take about the room of the part files.

    Args:
        source: the run's folder: a path or an fsspec URI.
        out: a file, or a stream that gets the rows once all are known to be right.
        form: how result rows are written. None: as the ending of `out` says, else jsonl, or as the input.
        errors: a file for error rows. None: beside `out` where that is a file, if there are any; else they are counted only.
        missing: a file for a line of each missing row.
        partial: take what is there of a run that is not complete.
        tmp: for temporary files. None: beside `out`, or the system's place where that is a stream.
        name_rows: finds the ids of missing rows.
        open_input: opens the dataset: `out` has a line for each of its rows, with the answer beside it, and error rows among them.
        memory_bytes: about what sorting may hold.

    Raises:
        ResultsError: no run, damaged files, files of several runs, or an output that cannot be written. `out` is as it was then.
    """
    run = find_run(Folder(source))
    if run.unfinished and not partial and missing is None:
        return _unread(run)
    _check_targets(run.folder, [one for one in (out, errors, missing) if isinstance(one, Path)])
    temporary = tmp or _temporary_place(out)
    name = out.name if isinstance(out, Path) else ""
    dataset = open_input(run.identity) if open_input else None
    form = form or form_of(name) or (dataset.form if dataset else "jsonl")
    in_table = dataset is None and form in {"csv", "parquet"}
    kinds = ColumnKinds()
    with contextlib.ExitStack() as stack:
        with explained(temporary, "write a temporary file"):
            sorter = stack.enter_context(LineSorter(temporary, memory_bytes=memory_bytes))
            gaps = stack.enter_context(contextlib.closing(Gaps(temporary)))
            found = read_all(run, _seeing(kinds, sorter.add) if in_table else sorter.add)
            join = Join(run)
            wanted = partial or not run.unfinished
            target = out if wanted else None
            outputs: Outputs | JoinOutputs
            if dataset is None:
                plan = ExportPlan(form=form, openai=_openai_form(run), carried=kinds.kinds, name=name)
                outputs = Outputs(target, errors, temporary, plan)
            else:
                outputs = JoinOutputs(target, temporary, form, dataset, run.dataset_rows)
            stack.callback(outputs.discard)
            outputs.open()
            outputs.write_all(join.rows(sorter.sorted(), gaps))
        found = replace(
            found,
            results=outputs.results,
            errors=outputs.errors,
            duplicates=join.duplicates,
            missing=gaps.count,
            first_missing=gaps.first,
        )
        written: list[tuple[str, Path | str]] = []
        if missing is not None:
            written.append(_write_missing(run, gaps, missing, temporary, name_rows))
        if found.complete or partial:
            written += outputs.commit()
    return replace(found, written=tuple(written))


def _seeing(kinds: ColumnKinds, add: Callable[[int, int, bytes], None]) -> Callable[[int, int, bytes], None]:
    """`add`, with a look at the columns that the results carry: a table has its columns before its first row."""

    def see(index: int, rank: int, line: bytes) -> None:
        if not is_error_rank(rank):
            with contextlib.suppress(
                ValueError
            ):  # said when it is written, unless the file's hash is the better explanation
                kinds.see(carried_of(decode_result(line)))
        add(index, rank, line)

    return see


def _check_targets(folder: Folder, targets: Sequence[Path]) -> None:
    """No output may replace a file of the run, or another output."""
    places = [target.resolve() for target in targets]
    for place, target in zip(places, targets, strict=True):
        in_run = folder.local is not None and place.parent == folder.local.resolve()
        if in_run and (ShardFile.parse(place.name) or place.name in {SUCCESS, REPORT}):
            raise ResultsError("that is a file of the run itself", where=str(target), remedy="name another file")
        if places.count(place) > 1:
            raise ResultsError("two outputs would go to this file", where=str(target), remedy="name a file for each")


def _temporary_place(out: Path | BinaryIO) -> Path:
    """Beside the output: the volume that must hold the rows anyway."""
    if isinstance(out, Path) and (out.is_file() or not out.exists()):
        return out.resolve().parent
    return Path(tempfile.gettempdir())


def _unread(run: FoundRun) -> Collected:
    totals = sum((one.totals for one in run.manifests), Totals())
    return replace(_nothing_read(run), read=False, results=totals.results, errors=totals.errors_by_code)


def _nothing_read(run: FoundRun) -> Collected:
    return Collected(source=run.folder.uri, shards=run.shards, dataset_rows=run.dataset_rows, unfinished=run.unfinished)


def read_all(run: FoundRun, add: Callable[[int, int, bytes], None]) -> Collected:
    """Gives index, rank and line of every row of every file to `add`, and checks every file."""
    size = torn = 0
    for number, file in enumerate(run.files):
        reader = FileReader(run.folder, file, run.dataset_rows)
        first = rank_of(number, file, 1)
        for rank, (index, line) in enumerate(reader.read(), start=first):
            add(index, rank, line)
        size += reader.bytes
        torn += reader.torn
    unlisted = sum(file.entry is None for file in run.files)
    return replace(_nothing_read(run), files=len(run.files), bytes=size, unlisted=unlisted, torn=torn)


def _openai_form(run: FoundRun) -> OpenAIForm:
    """What the OpenAI form needs to know of a run whose rows did not come in it."""
    model = "unknown"
    if run.identity:
        model = run.identity.spec.get("target", {}).get("model") or run.identity.models.get("target", model)
    began = [attempt.started_at for one in run.manifests for attempt in one.attempts]
    return OpenAIForm(model=model, created=int(min(began, default=0)))


def _write_missing(
    run: FoundRun, gaps: Gaps, target: Path, tmp: Path, name_rows: NameRows | None
) -> tuple[str, Path | str]:
    """A line of JSON for each missing row: its index, and its id where that is known."""
    output = Output(target, tmp)
    try:
        output.open()
        named = name_rows(run.identity, gaps) if name_rows else ((index, None) for index in gaps)
        for index, name in named:
            value = {"index": index} if name is None else {"index": index, "id": name}
            output.file.write(encode_json(value) + b"\n")
        output.commit()
    finally:
        output.discard()
    return f"{gaps.count:,} missing rows", target
