"""What a run and its verification need before a row is decoded: models, a plan that fits, tokenizer, template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

import torch
from transformers import PreTrainedTokenizerBase

from specbatch.api.decoding import DecodingSpec
from specbatch.api.job import Spec, SpecBatchJob
from specbatch.engine.loading.load import why_unsupported
from specbatch.errors import ModelError, OutOfMemoryError
from specbatch.plan.engine_choice import INSTALL, EngineChoice, choose_engine
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.planner import make_plan
from specbatch.plan.types import GpuShape, Plan
from specbatch.results.identity import Identity
from specbatch.runner.environment import SMALL_STEP_BYTES
from specbatch.runner.models.defaults import ModelDefaults
from specbatch.runner.models.load import Pair, load_shared_tokenizer, read_shapes
from specbatch.runner.rows.forms import RowForm, RowRules
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.templates import ChatTemplate, choose_template
from specbatch.runner.vllm.installation import installed


@dataclass(frozen=True, slots=True)
class RunInputs:
    """All that is made of a spec, the models' files and the devices without loading weights.

    Attributes:
        request: what was planned for: the ceiling is found from it.
        template: what dataset.chatTemplate means; None: prompts as they are.
        engine: which decodes the rows.
        decoding: the spec's, with what it takes from the target's generation_config.json.
        taken: what that is, in words.
    """

    job: SpecBatchJob
    pair: Pair
    request: PlanRequest
    plan: Plan
    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate | None
    engine: EngineChoice
    decoding: DecodingSpec
    taken: str = ""

    @classmethod
    def of(
        cls,
        job: SpecBatchJob,
        pair: Pair,
        gpus: Sequence[GpuShape],
        env: Mapping[str, str],
        *,
        few_threads: bool,
        remedy: str,
    ) -> Self:
        """Plans and reads.

        Args:
            job: the spec.
            pair: the models' files.
            gpus: the devices that are there.
            env: environment variables: overrides of the placement.
            few_threads: whether a model too small for several CPU threads may go down to one.
            remedy: where the plan does not fit.

        Raises:
            OutOfMemoryError: no placement fits.
            SpecbatchError: shapes, tokenizer or template cannot be read, or the engine is not installed.
        """
        target, drafter = read_shapes(job.spec, pair)
        request = PlanRequest.of(job, target, drafter, gpus)
        engine = _engine(job, pair, request)
        if few_threads and target.step_bytes < SMALL_STEP_BYTES:
            torch.set_num_threads(1)
        plan = make_plan(job, target, drafter, gpus, env)
        if not plan.fits:
            raise OutOfMemoryError(
                f"the placement does not fit: {'; '.join(plan.problems)}", where="spec.placement", remedy=remedy
            )
        tokenizer = load_shared_tokenizer(pair)
        template = choose_template(job.spec.dataset, tokenizer)
        plan = replace(plan, notes=(*plan.notes, str(engine)))
        decoding, taken = ModelDefaults(pair.target.path, pair.target.name).decoding(job.spec.decoding)
        return cls(job, pair, request, plan, tokenizer, template, engine, decoding, taken)

    @property
    def spec(self) -> Spec:
        """The job's, with that decoding."""
        return self.job.spec.model_copy(update={"decoding": self.decoding})

    @property
    def max_length(self) -> int:
        """Tokens of a row: past the target's last position its text would be worthless, so longer rows are refused."""
        return min(self.plan.max_length, self.pair.target.max_positions or self.plan.max_length)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens that end the target's texts, by its configs."""
        return ModelDefaults(self.pair.target.path, self.pair.target.name).eos_token_ids

    def rules(self, identity: Identity, form: RowForm) -> RowRules:
        """How rows of the run of that identity are read, which have that form."""
        dataset, target = self.job.spec.dataset, self.job.spec.target
        return RowRules(
            self.decoding,
            dataset,
            target,
            found=form,
            salt=json.dumps(
                [identity.models["target"], self._template_text, dataset.system_prompt, dataset.enable_thinking]
            ),
        )

    def encoder(self, identity: Identity) -> PromptEncoder:
        """How they become prompts.

        Raises:
            SpecError: a system prompt has no template to stand in.
        """
        dataset = self.job.spec.dataset
        instant = datetime.fromisoformat(identity.instant) if identity.instant else None
        return PromptEncoder(
            self.tokenizer,
            template=self._template_text,
            system_prompt=dataset.system_prompt,
            enable_thinking=dataset.enable_thinking,
            max_length=self.max_length,
            ends=self.eos_token_ids,
            embedded=self.pair.target.vocab_size,
            instant=instant and instant.replace(tzinfo=None),  # as datetime.now() gives it
        )

    @property
    def _template_text(self) -> str | None:
        return None if self.template is None else self.template.text


def _engine(job: SpecBatchJob, pair: Pair, request: PlanRequest) -> EngineChoice:
    target = pair.target
    cannot = None if target.path.is_file() or target.code else why_unsupported(str(target.path), name=target.name)
    engine = choose_engine(job.spec, request.models, installed(), cannot)
    if engine.name == "vllm" and not engine.version:
        raise ModelError(f"vLLM is not installed, and {engine.reason}", where="spec.engine.name", remedy=INSTALL)
    return engine
