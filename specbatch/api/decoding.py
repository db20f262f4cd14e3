"""How tokens are chosen, how far to speculate, and how rows are batched."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from specbatch.api.base import Says, SpecModel

KOrAuto = Annotated[int, Field(ge=0, le=32)] | Literal["auto"]
StopString = Annotated[str, Field(min_length=1), Says("text of at least one character")]


class DecodingSpec(SpecModel):
    """How the next token is chosen, and how far to speculate. A row of the dataset may override the first seven fields."""

    max_new_tokens: int = Field(
        default=256,
        ge=1,
        le=2**20,
        description="The most tokens to generate for a row. Prompt and new tokens together must fit batching.maxLength.",
        examples=[512],
    )
    temperature: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="0 is greedy: the most likely token, always. Above 0 tokens are sampled; the higher, the more varied.",
        examples=[0.7],
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Sample only from the most likely tokens whose probabilities reach this sum. 1 keeps all. Needs a temperature above 0.",
        examples=[0.95],
    )
    top_k: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Sample only from this many of the most likely tokens. 0 keeps all. Needs a temperature above 0.",
        examples=[20],
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**63 - 1,
        description="The seed of sampling. Every row has its own random stream from the seed and its id, so a row's text depends on no other row.",
        examples=[42],
    )
    stop: list[StopString] = Field(
        default_factory=list,
        max_length=16,
        description="Strings at which a row's text ends; the string itself is left out.",
        examples=[["\n\n", "###"]],
    )
    ignore_eos: bool = Field(
        default=False,
        description="Whether to go on past the model's end of text, up to maxNewTokens. For benchmarks.",
        examples=[True],
    )
    num_speculative_tokens: KOrAuto = Field(
        default="auto",
        description="k: the tokens drafted in a round before the target verifies them. auto chooses k, as the run goes, from measured costs and "
        "acceptance, and may choose 0. It changes the speed, not the text.",
        examples=[4],
    )
    max_speculative_tokens: int = Field(
        default=8,
        ge=1,
        le=32,
        description="The largest k that auto may choose.",
        examples=[6],
    )
    acceptance_rule: Literal["coupled", "rejection"] = Field(
        default="coupled",
        description="How sampled drafts are accepted (temperature above 0). coupled: the sampled text is the same, token for token, whatever the drafter and k. "
        "rejection: the rule of the speculative sampling paper; the same distribution, and a little more acceptance.",
        examples=["rejection"],
    )


class BatchingSpec(SpecModel):
    """How many rows are decoded at once, and how long a row may be."""

    max_sequences: Annotated[int, Field(ge=1, le=2**20)] | Literal["auto"] = Field(
        default="auto",
        description="Rows decoded at once by each replica. auto: as many as the memory holds at maxLength; at half of it where rows "
        "share pages of KV (Llama, Mistral, Qwen2, Qwen3 on GPUs).",
        examples=[64],
    )
    max_length: int = Field(
        default=4096,
        ge=2,
        le=2**20,
        description="The most tokens of a row, prompt and new tokens together. A longer row goes to the errors file. Memory for the "
        "cache is set aside by this number: no larger than needed is faster.",
        examples=[4096],
    )
