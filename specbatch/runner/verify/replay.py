"""Replays sampled rows: loads the target, decodes and times them with it alone, judges those that differ. Imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from specbatch.api.job import SpecBatchJob
from specbatch.engine.engine import Engine
from specbatch.engine.general.model import CausalLM
from specbatch.engine.margins import BOUND
from specbatch.engine.memory import release
from specbatch.engine.request import Completion, Request
from specbatch.errors import DatasetError, ModelError, ResultsError
from specbatch.results.identity import Identity
from specbatch.results.rows import Choice, ResultRow, choices_of
from specbatch.results.verification import DIVERGENCES_KEPT, Verification
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.devices import visible_gpus
from specbatch.runner.identity import RECIPE, check_files
from specbatch.runner.inputs import RunInputs
from specbatch.runner.models.defaults import ModelDefaults
from specbatch.runner.models.load import find_pair, load_engines
from specbatch.runner.models.stop_strings import final_text
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.replicas import decode_all
from specbatch.runner.requests import RequestMaker, RequestSource
from specbatch.runner.rows.find_form import form_of
from specbatch.runner.rows.prefetcher import PreparedRow
from specbatch.runner.rows.row_reader import RowReader
from specbatch.runner.verify.follow import Follower, TargetScores
from specbatch.runner.verify.sample import FoundRows, Sample, SampleQueue, find_prompts
from specbatch.runner.versions import versions

_FLOAT32_RESERVE = 2 << 30  # bytes of a GPU left for one row's cache, activations and logits
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
            warnings=tuple(ModelDefaults(files.path, files.name).warnings(inputs.tokenizer, inputs.decoding)),
            versions=versions(),
        )
        return self._judged(verification, pairs, inputs) if pairs else verification

    def _judged(self, verification: Verification, pairs: Pairs, inputs: RunInputs) -> Verification:
        engines = load_engines(inputs.spec, inputs.pair, inputs.plan, self._say)
        target = engines[0].target
        dtype: torch.dtype = target.model.dtype
        detokenizer = Detokenizer(inputs.tokenizer)
        make_request = RequestMaker(detokenizer, target.eos_token_ids)
        self._say(f"decoding {len(pairs):,} rows with the target alone")
        completions, seconds = _decode(engines, pairs, make_request)
        choices = [(row, one, choice) for row, one in pairs for choice in choices_of(row)]
        tokens = sum(len(completion.token_ids) for completion in completions.values())
        max_sequences = sum(engine.stats.max_sequences for engine in engines)
        engines.clear()  # with them goes what they hold beside the target: pages, recordings, the other replicas' weights
        others = [
            (row, one, choice)
            for row, one, choice in choices
            if not _same(choice, one, completions[choice.id], detokenizer)
        ]
        scores, divergences = "", []
        if others:
            self._say(f"{len(others):,} completions differ: looking at the target's scores")
            scores = "float32" if _to_float32(target) else _name(dtype)
            longest = max(len(one.prompt_token_ids) + choice.completion_tokens for _, one, choice in others)
            follower = Follower(TargetScores(target, longest), detokenizer, dtype)
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
            dtype=_name(dtype),
            scores=scores,
            tie_bound=BOUND,
            target_only_tokens_per_second=tokens / seconds,
            target_only_rows=len(pairs),
            target_only_tokens=tokens,
            target_only_seconds=seconds,
            max_sequences=max_sequences,
            device=", ".join(dict.fromkeys(device for replica in inputs.plan.replicas for device in replica.devices)),
        )

    def _check_recipe(self) -> None:
        if self._identity.recipe != RECIPE:
            raise ResultsError(
                f"the run was made by a release that reads rows or draws tokens differently ({self._identity.recipe})",
                remedy="verify it with that release: the manifest's versions name it",
            )

    def _inputs(self) -> RunInputs:
        spec = self._job.spec
        pair = find_pair(spec, self._env, self._say)
        recorded, here = self._identity.models["target"], pair.target.identity
        if here.rpartition("@")[2] != recorded.rpartition("@")[2]:
            raise ModelError(
                f"the run's target was {recorded}, and here is {here}",
                where="spec.target.model",
                remedy="verify with the target of the run: --set target.model=PATH where it has been moved",
            )
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


def _decode(engines: Sequence[Engine], pairs: Pairs, make_request: RequestMaker) -> tuple[dict[str, Completion], float]:
    """Every completion by its id, and the seconds that took. A first short row takes what first rounds cost."""
    for engine in engines:
        list(engine.generate([Request("first", pairs[0][1].prompt_token_ids[:8], 2)]))
    source = RequestSource(SampleQueue(one for _, one in pairs), make_request)
    start = time.perf_counter()
    completions = {one.request.id: one for decoded in decode_all(engines, source) for one in decoded.completions}
    return completions, time.perf_counter() - start


def _same(choice: Choice, prepared: PreparedRow, completion: Completion, detokenizer: Detokenizer) -> bool:
    decoding = prepared.row.decoding
    return (
        completion.finish_reason == choice.finish_reason
        and len(completion.token_ids) == choice.completion_tokens
        and final_text(detokenizer, completion.token_ids, decoding.stop, decoding.min_tokens) == choice.text
    )


def _to_float32(target: CausalLM) -> bool:
    """Turns the target into float32 where that fits; whether it is. No engine decodes with it any more."""
    target.cache = None
    devices = {parameter.device for parameter in target.model.parameters()}
    for device in devices:
        release(device)
    if target.model.dtype == torch.float32:
        return True
    if not all(_fits_in_float32(target, device) for device in devices):
        return False
    target.model.float()
    return True


def _fits_in_float32(target: CausalLM, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    weights = [one for one in target.model.parameters() if one.device == device and one.is_floating_point()]
    growth: int = sum(one.numel() * (4 - one.element_size()) for one in weights)
    largest: int = max((4 * one.numel() for one in weights), default=0)  # old and new stand side by side for a moment
    free: int = torch.cuda.mem_get_info(device)[0]
    return growth + largest + _FLOAT32_RESERVE <= free


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
