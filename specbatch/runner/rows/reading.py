"""How a spec says that rows are read and made into prompts: the same in a run and when it is verified."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from specbatch.api.job import Spec
from specbatch.engine.counter_rng import STREAM_VERSION
from specbatch.runner.models.tokenizer import Tokenizer
from specbatch.runner.rows.model_names import ModelNames
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.row_reader import FINGERPRINT_VERSION, RowRules
from specbatch.runner.rows.templates import ChatTemplate

RECIPE = f"fingerprints {FINGERPRINT_VERSION}, streams {STREAM_VERSION}"
"""By this a run knows whether another release would know its finished rows again, and draw the same tokens."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The rules for raw rows, and the encoder of prompts."""

    rules: RowRules
    encoder: PromptEncoder

    @classmethod
    def of(
        cls,
        spec: Spec,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        *,
        target: str,
        max_length: int,
        instant: str = "",
        embedded: int | None = None,
    ) -> Self:
        """As the spec has it.

        Args:
            spec: for dataset and decoding.
            tokenizer: the target's.
            template: what dataset.chatTemplate means (`templates.choose_template`).
            target: its identity, `name@revision`: part of every row's fingerprint.
            max_length: of a row, prompt and new tokens together.
            instant: the identity's.
            embedded: tokens that the target has embeddings for.

        Raises:
            SpecError: a system prompt has no template to stand in.
        """
        dataset = spec.dataset
        text = None if template is None else template.text
        rules = RowRules(
            decoding=spec.decoding,
            format=dataset.format,
            prompt_field=dataset.prompt_field,
            id_field=dataset.id_field,
            answer_field=dataset.answer_field,
            ignore_fields=frozenset(dataset.ignore_fields),
            models=ModelNames(spec.target.model, spec.target.revision, any_model=dataset.any_model),
            salt=json.dumps([target, text, dataset.system_prompt, dataset.enable_thinking]),
        )
        encoder = PromptEncoder(
            tokenizer,
            template=text,
            system_prompt=dataset.system_prompt,
            enable_thinking=dataset.enable_thinking,
            max_length=max_length,
            embedded=embedded,
            instant=datetime.fromisoformat(instant).replace(tzinfo=None)
            if instant
            else None,  # as datetime.now() gives it
        )
        return cls(rules, encoder)
