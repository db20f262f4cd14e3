"""A run from its spec to its manifest, step by step. Imports torch: job.py imports it last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from specbatch.api.job import SpecBatchJob
from specbatch.errors import ResultsError
from specbatch.plan.shapes.model_dir import EMBEDDED
from specbatch.results.identity import Identity
from specbatch.results.layout import run_directory
from specbatch.results.manifest import read_manifests, success_of, write_success
from specbatch.results.protocol import Finished, Started
from specbatch.results.report.report import write_report
from specbatch.results.shard.shard import ShardResults
from specbatch.results.shard.unanswered import unanswered
from specbatch.results.storage.folder import Folder
from specbatch.results.summary import RunSummary
from specbatch.runner.budget import ErrorBudget
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.dataset.lines import Shard
from specbatch.runner.devices import visible_gpus
from specbatch.runner.display import WARNING, Display
from specbatch.runner.engine_set import ready_engines
from specbatch.runner.identity import run_identity, run_instant
from specbatch.runner.inputs import RunInputs
from specbatch.runner.models.defaults import DEMONSTRATION, ModelDefaults
from specbatch.runner.models.load import find_pair
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.output.manifest_writer import ManifestWriter
from specbatch.runner.output.output_processor import OutputProcessor
from specbatch.runner.output.publishing import Publishing
from specbatch.runner.progress_meter import LoadedInfo
from specbatch.runner.requests import RequestMaker
from specbatch.runner.retry import Retrier
from specbatch.runner.rows.find_form import Head, find_form
from specbatch.runner.rows.form_text import form_sentence
from specbatch.runner.rows.forms import RowForm
from specbatch.runner.rows.prefetcher import RowPrefetcher
from specbatch.runner.rows.row_reader import RowReader
from specbatch.runner.shard_runner import Loaded, ShardRunner
from specbatch.runner.stopping import StopSignals
from specbatch.runner.versions import hardware

_READY_ROWS = 4  # batches of rows held ready
_WINDOW = 4096  # rows, at least, among which those that begin alike are brought together


class Session:
    """One call of `run`: everything that is decided before rows are decoded, and what is written after.

    Args:
        job: the spec.
        shard: which rows are ours.
        display: shows how it goes.
        env: environment variables.
        signals: stop signals.
        few_threads: whether a model too small for several CPU threads may go down to one.
        price: of a GPU for an hour.
    """

    def __init__(
        self,
        job: SpecBatchJob,
        shard: Shard,
        display: Display,
        env: Mapping[str, str],
        signals: StopSignals,
        *,
        few_threads: bool = False,
        price: float | None = None,
    ) -> None:
        self._job = job
        self._shard = shard
        self._display = display
        self._env = env
        self._signals = signals
        self._few_threads = few_threads
        self._price = price
        self._run_dir = run_directory(job.spec.results.dir, job.results_name)
        self._warnings: Sequence[str] = ()
        self._prompts = ""

    def run(self, *, fresh: bool) -> RunSummary:
        """Runs the shard to its end.

        Raises:
            SpecbatchError: of any kind; what was finished is saved.
        """
        dataset = self._dataset()
        form = self._form(dataset)
        inputs = self._inputs()
        self._display.show(Started(self._job.metadata.name, str(self._run_dir)))
        self._warn(inputs)
        identity = self._identity(dataset, inputs, fresh=fresh)
        publishing = Publishing(
            self._job.spec.results,
            self._run_dir,
            self._shard,
            identity,
            fresh=fresh,
            signals=self._signals,
            say=self._display.step,
        )
        with publishing:
            manifest = ManifestWriter(self._job, self._run_dir, self._shard, fresh=fresh)
            manifest.warnings, manifest.prompts = self._warnings, self._prompts
            store = ShardResults.open(
                self._run_dir,
                shard=self._shard.number,
                shards=self._shard.count,
                identity=identity,
                policy=replace(publishing.policy, on_cut=self._display.step),
                fresh=fresh,
            )
            with store:
                publishing.start()
                runner = self._shard_runner(store, dataset, form, inputs, publishing)
                with manifest.after(store, runner, inputs):
                    summary = runner.run(lambda: self._load(inputs, manifest))
            no_answer = unanswered(Folder(self._run_dir))
            if no_answer is not None:
                runner.fail(no_answer)
                manifest.write(store, runner, inputs)
            complete = success_of(read_manifests(self._run_dir)) is not None
            report = self._report() if complete or self._shard.count == 1 else None
            write_success(self._run_dir)
            try:
                publishing.finish(runner.save_last_progress)
            finally:
                self._show_warnings()  # once more, beside the summary
                self._display.show(Finished(summary, str(self._run_dir), str(report) if report else None))
            no_answer = no_answer or publishing.unanswered()
            if no_answer is not None:
                raise no_answer
        return summary

    def _dataset(self) -> Dataset:
        """The dataset, which can be read as far as the beginnings of its files tell."""
        spec = self._job.spec.dataset
        dataset = Dataset(spec, Retrier(spec.retry_seconds, say=self._display.step))
        if dataset.left_out:
            self._display.step(dataset.left_out)
        dataset.check_readable()
        return dataset

    def _form(self, dataset: Dataset) -> RowForm:
        """The form of its rows, found in the first of them and told."""
        spec = self._job.spec.dataset
        head = Head.of(dataset.head(), spec.ignore_fields)
        form = find_form(spec, head)
        self._prompts = form_sentence(spec, form, head)
        self._display.step(f"prompts: {self._prompts}")
        return form

    def _inputs(self) -> RunInputs:
        gpus = visible_gpus(self._job.spec.placement.gpus, self._env)
        return RunInputs.of(
            self._job,
            find_pair(self._job.spec, self._env, self._display.step),
            gpus,
            self._env,
            few_threads=self._few_threads,
            remedy="`specbatch plan FILE` shows by how much, and what else would fit",
        )

    def _warn(self, inputs: RunInputs) -> None:
        """Says what the target's folder asks for and the run does not do."""
        defaults = ModelDefaults(inputs.pair.target.path, inputs.pair.target.name)
        self._warnings = defaults.warnings(inputs.tokenizer, inputs.decoding)
        self._show_warnings()
        if self._job.spec.target.model.startswith(EMBEDDED):
            self._display.step(DEMONSTRATION)
        if said := defaults.sampling_sentence(inputs.decoding, inputs.taken):
            self._display.step(said)

    def _show_warnings(self) -> None:
        for warning in self._warnings:
            self._display.step(f"{WARNING}{warning}")

    def _identity(self, dataset: Dataset, inputs: RunInputs, *, fresh: bool) -> Identity:
        instant = run_instant(self._job, self._run_dir, self._shard, inputs.template, self._env, fresh=fresh)
        if instant:
            self._display.step(f"the chat template reads the clock: every row of this run is shown {instant}")
        engine = inputs.engine.identity
        return run_identity(self._job, dataset, inputs.pair, inputs.template, engine=engine, instant=instant)

    def _shard_runner(
        self, store: ShardResults, dataset: Dataset, form: RowForm, inputs: RunInputs, publishing: Publishing
    ) -> ShardRunner:
        spec, plan = self._job.spec, inputs.plan
        if inputs.max_length < plan.max_length:
            self._display.step(
                f"rows may have {inputs.max_length} tokens: the target's positions, fewer than batching.maxLength"
            )
        rules, encoder = inputs.rules(store.identity, form), inputs.encoder(store.identity)
        first = store.attempts[0].started_at if store.attempts else time.time()
        return ShardRunner(
            store,
            lambda on_bad: RowPrefetcher(
                dataset,
                RowReader(rules),
                encoder,
                shard=self._shard,
                finished=store.finished,
                on_bad=on_bad,
                capacity=max(_WINDOW, _READY_ROWS * plan.max_sequences * len(plan.replicas)),
            ),
            OutputProcessor(
                Detokenizer(inputs.tokenizer),
                spec.target.model,
                created=int(first),
                include_prompt=spec.results.include_prompt,
                scored=spec.dataset.answer_field is not None,
            ),
            budget=ErrorBudget(spec.dataset.error_budget),
            signals=self._signals,
            display=self._display,
            publish=publishing.state,
        )

    def _load(self, inputs: RunInputs, manifest: ManifestWriter) -> Loaded:
        began = time.monotonic()
        ready = ready_engines(inputs, self._display.step)
        manifest.placement, manifest.hardware = ready.placement, hardware(inputs.plan)
        warmup = sum(engine.stats.warmup_seconds for engine in ready.engines)
        return Loaded(
            engines=ready.engines,
            make_request=RequestMaker(Detokenizer(inputs.tokenizer), ready.eos_token_ids),
            info=LoadedInfo(
                engine=ready.description,
                load_seconds=time.monotonic() - began - warmup,
                ceiling=ready.ceiling,
                gpu_mib=ready.gpu_mib,
                gpus=sum(manifest.hardware.gpus.values()),
                price=self._price,
            ),
        )

    def _report(self) -> Path | None:
        if not self._job.spec.results.report:
            return None
        try:
            return write_report(self._run_dir)
        except ResultsError as error:  # the results are whole without it
            self._display.step(f"no report: {error.message}")
            return None
