"""Replays sampled rows: loads the target, decodes and times them with it alone, judges those that differ. Imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from msgspec import structs

from specbatch.api.job import SpecBatchJob
from specbatch.engine.margins import bound_in_words
from specbatch.engine.request import Completion, Request
from specbatch.errors import DatasetError, ModelError, ResultsError
from specbatch.results.identity import Identity
from specbatch.results.rows import Choice, ResultRow, choices_of
from specbatch.results.verification import DIVERGENCES_KEPT, Verification
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.devices import visible_gpus
from specbatch.runner.engine_set import ready_engines
from specbatch.runner.identity import RECIPE, check_files
from specbatch.runner.inputs import RunInputs
from specbatch.runner.models.defaults import ModelDefaults
from specbatch.runner.models.load import Pair, find_pair
from specbatch.runner.models.stop_strings import final_text
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.replicas import EngineProtocol, decode_all
from specbatch.runner.requests import RequestMaker, RequestSource
from specbatch.runner.rows.find_form import form_of
from specbatch.runner.rows.prefetcher import PreparedRow
from specbatch.runner.rows.row_reader import RowReader
from specbatch.runner.verify.follow import Follower
from specbatch.runner.verify.logprobs import differences
from specbatch.runner.verify.sample import FoundRows, Sample, SampleQueue, find_prompts
from specbatch.runner.verify.scores import ScoreSource
from specbatch.runner.versions import versions

_CHANGED_KEPT = 20

Pairs = Sequence[tuple[ResultRow, PreparedRow]]


class Replay:
    """Replays rows of one run.

    Args:
        job: the run's, with the target alone (`verify.alone`).
        identity: the run's, as its manifest has it.
        env: environment variables.
        say: shows a line of what is going on.
        rejecting: whether the run's sampled rows came from the rejection rule.
        few_threads: whether a model too small for several CPU threads may go down to one.
    """

    def __init__(
        self,
        job: SpecBatchJob,
        identity: Identity,
        env: Mapping[str, str],
        say: Callable[[str], None],
        *,
        rejecting: bool,
        few_threads: bool,
    ) -> None:
        self._job = job
        self._identity = identity
        self._env = env
        self._say = say
        self._rejecting = rejecting
        self._few_threads = few_threads

    def verify(self, sample: Sample, seed: int) -> Verification:
        """Looks at every row of the sample; see `verify_run` for what it raises."""
        self._check_recipe()
        spec = self._job.spec
        dataset = Dataset(spec.dataset)
        inputs = self._inputs()
        files = inputs.pair.target
        check_files(self._identity, files, inputs.template)
        found = self._find(dataset, inputs, sample)
        pairs = [(row, one) for row, one in found.same if not (self._rejecting and one.row.decoding.temperature > 0)]
        verification = Verification(
            finished=sample.finished,
            sampled=len(sample.rows),
            seed=seed,
            not_replayable=len(found.same) - len(pairs),
            changed=len(found.changed),
            changed_rows=tuple(found.changed[:_CHANGED_KEPT]),
            target=self._identity.models["target"],
            engine=self._identity.engine,
            warnings=tuple(ModelDefaults(files.path, files.name).warnings(inputs.tokenizer, inputs.decoding)),
            versions=versions(),
        )
        return self._judged(verification, pairs, inputs) if pairs else verification

    def _judged(self, verification: Verification, pairs: Pairs, inputs: RunInputs) -> Verification:
        ready = ready_engines(inputs, self._say, scoring=True)
        detokenizer = Detokenizer(inputs.tokenizer)
        make_request = RequestMaker(detokenizer, ready.eos_token_ids)
        self._say(f"decoding {len(pairs):,} rows with the target alone")
        completions, seconds = _decode(ready.engines, pairs, make_request)
        choices = [(row, one, _as_generated(choice)) for row, one in pairs for choice in choices_of(row)]
        tokens = sum(len(completion.token_ids) for completion in completions.values())
        max_sequences = sum(engine.stats.max_sequences for engine in ready.engines)
        source, fp8_kv = ScoreSource(ready), inputs.spec.target.kv_dtype == "fp8"
        others, apart = [], list[float]()
        for row, one, choice in choices:
            completion = completions[choice.id]
            same = _same(choice, one, completion, detokenizer)
            others += [] if same else [(row, one, choice)]
            apart += differences(row, choice, completion, same_text=same)
        computed, divergences = "", []
        if others:
            self._say(f"{len(others):,} completions differ: looking at the target's scores")
            longest = max(len(one.prompt_token_ids) + choice.completion_tokens for _, one, choice in others)
            scores, dtype = source.scores(longest)
            computed = _name(dtype)
            follower = Follower(scores, detokenizer, source.dtype, fp8_kv)
            made = {request.id: request for _, one, _ in others for request in make_request.all_of(one)}
            divergences = [
                follower.judge(choice, row.index, made[choice.id], one.row.decoding, completions[choice.id].token_ids)
                for row, one, choice in others
            ]
        unexplained = [one for one in divergences if one.kind == "unexplained"]
        ties = [one for one in divergences if one.kind == "tie"]
        # Rows are counted, whose completions may be several: the worst of them says what a row is.
        differing, wrong = {row.index for row, _, _ in others}, {one.index for one in unexplained}
        return replace(
            verification,
            exact=len(pairs) - len(differing),
            ties=len(differing - wrong),
            unexplained=len(wrong),
            divergences=tuple([*unexplained, *ties][:DIVERGENCES_KEPT]),
            dtype=_name(source.dtype),
            scores=computed,
            tie_bound=bound_in_words(fp8_kv=fp8_kv),
            target_only_tokens_per_second=tokens / seconds,
            target_only_rows=len(pairs),
            target_only_tokens=tokens,
            target_only_seconds=seconds,
            max_sequences=max_sequences,
            logprobs=len(apart),
            logprobs_apart=max(apart, default=0.0),
            device=", ".join(dict.fromkeys(device for replica in inputs.plan.replicas for device in replica.devices)),
        )

    def _check_recipe(self) -> None:
        if self._identity.recipe != RECIPE:
            raise ResultsError(
                f"the run was made by a release that reads rows or draws tokens differently ({self._identity.recipe})",
                remedy="verify it with that release: the manifest's versions name it",
            )

    def _inputs(self) -> RunInputs:
        pair = find_pair(self._job.spec, self._env, self._say)
        for role in ("target", "adapter"):
            recorded, here = self._identity.models.get(role, ""), pair.identity.get(role, "")
            if here.rpartition("@")[2] != recorded.rpartition("@")[2]:
                path = "target.model" if role == "target" else "target.adapter"
                raise ModelError(
                    f"the run's {role} was {recorded or 'none'}, and here is {here or 'none'}",
                    where=f"spec.{path}",
                    remedy=f"verify with the {role} of the run: --set {path}=PATH where it has been moved",
                )
        inputs = self._inputs_of(pair)
        if inputs.engine.identity != self._identity.engine:
            raise ModelError(
                f"the run's engine was {self._identity.engine}, and here is {inputs.engine.identity}",
                where="spec.engine",
                remedy="verify with the engine and the version of the run",
            )
        return inputs

    def _inputs_of(self, pair: Pair) -> RunInputs:
        spec = self._job.spec
        return RunInputs.of(
            self._job,
            pair,
            visible_gpus(spec.placement.gpus, self._env),
            self._env,
            few_threads=self._few_threads,
            remedy="--set batching.maxSequences=1, or other placement (--set placement.gpus=...)",
        )

    def _find(self, dataset: Dataset, inputs: RunInputs, sample: Sample) -> FoundRows:
        form = form_of(dataset, self._job.spec.dataset)
        reader, encoder = RowReader(inputs.rules(self._identity, form)), inputs.encoder(self._identity)
        found = find_prompts(dataset, reader, encoder, sample.rows)
        if not found.same:
            raise DatasetError(
                f"none of the {len(sample.rows):,} sampled rows is there as it was decoded ({found.changed[0]})",
                where=self._job.spec.dataset.uri,
                remedy="verify with the dataset of the run: --set dataset.uri=PATH where it has been moved",
            )
        return found


def _decode(
    engines: Sequence[EngineProtocol], pairs: Pairs, make_request: RequestMaker
) -> tuple[dict[str, Completion], float]:
    """Every completion by its id, and the seconds that took. A first short row takes what first rounds cost."""
    for engine in engines:
        list(engine.generate([Request("first", pairs[0][1].prompt_token_ids[:8], 2)]))
    source = RequestSource(SampleQueue(one for _, one in pairs), make_request)
    start = time.perf_counter()
    completions = {one.request.id: one for decoded in decode_all(engines, source) for one in decoded.completions}
    return completions, time.perf_counter() - start


def _as_generated(choice: Choice) -> Choice:
    """As the target gave it: with its reasoning and its calls in the text."""
    reason = "stop" if choice.finish_reason == "tool_calls" else choice.finish_reason
    text = choice.text if choice.generated is None else choice.generated
    return structs.replace(choice, text=text, finish_reason=reason)


def _same(choice: Choice, prepared: PreparedRow, completion: Completion, detokenizer: Detokenizer) -> bool:
    decoding = prepared.row.decoding
    return (
        completion.finish_reason == choice.finish_reason
        and len(completion.token_ids) == choice.completion_tokens
        and final_text(detokenizer, completion.token_ids, decoding.stop, decoding.min_tokens) == choice.text
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
