"""How tokens are chosen, how far to speculate, and how rows are batched."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from specbatch.api.base import Says, SpecModel
from specbatch.api.structured import StructuredOutput

KOrAuto = Annotated[int, Field(ge=0, le=32)] | Literal["auto"]
StopString = Annotated[str, Field(min_length=1), Says("text of at least one character")]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenKey = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,9})$"), Says('a token id in quotes, such as "31"')]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenWord = Annotated[list[TokenId], Field(min_length=1, max_length=16)]


class DecodingSpec(SpecModel):
    """How the next token is chosen, and how far to speculate. A row of the dataset may override the fields down to ignoreEos."""

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
    min_p: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Sample only from tokens of at least this share of the likeliest one's probability, at the temperature; before topK and topP, as in vLLM. "
        "0 keeps all. Needs a temperature above 0.",
        examples=[0.05],
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=0.01,
        le=100,
        description="Above 1, tokens of the prompt and of the text so far become less likely: positive logits are divided by it, negative ones multiplied. 1 changes nothing.",
        examples=[1.1],
    )
    frequency_penalty: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        description="Subtracted from a token's logit for each time that it stands in the text so far.",
        examples=[0.5],
    )
    presence_penalty: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        description="Subtracted once from the logit of every token that stands in the text so far.",
        examples=[0.5],
    )
    no_repeat_ngram_size: int = Field(
        default=0,
        ge=0,
        le=16,
        description="No run of so many tokens occurs twice in prompt and text. 0 allows all.",
        examples=[4],
    )
    logit_bias: dict[TokenKey, Bias] = Field(
        default_factory=dict,
        max_length=512,
        description="Added to the logits of tokens, which are named by their ids. -100 all but bans a token.",
        examples=[{"31": -100}],
    )
    bad_words: list[StopString | TokenWord] = Field(
        default_factory=list,
        max_length=64,
        description="Words that the text does not get, as text or as lists of token ids. A word is banned as its tokens are at the beginning of a text and after a space; spelt in other tokens it is not.",
        examples=[["sorry", "apologies"]],
    )
    suppress_tokens: list[TokenId] = Field(
        default_factory=list,
        max_length=512,
        description="Token ids that the text does not get.",
        examples=[[220]],
    )
    begin_suppress_tokens: list[TokenId] = Field(
        default_factory=list,
        max_length=128,
        description="Token ids that the text does not begin with.",
        examples=[[220]],
    )
    n: int = Field(
        default=1,
        ge=1,
        le=128,
        description="Completions of a row, each from a random stream of its own: a row's result holds all of them. More than 1 needs a temperature above 0.",
        examples=[4],
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
    stop_token_ids: list[TokenId] = Field(
        default_factory=list,
        max_length=128,
        description="Token ids at which a row's text ends, beside the model's own end of text.",
        examples=[[151643]],
    )
    min_tokens: int = Field(
        default=0,
        ge=0,
        le=2**20,
        description="The text goes on for so many tokens: the end of text and stopTokenIds are banned, and stop strings do not count before.",
        examples=[16],
    )
    ignore_eos: bool = Field(
        default=False,
        description="Whether to go on past the model's end of text, up to maxNewTokens. For benchmarks.",
        examples=[True],
    )
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None,
        description="Results hold the log probability of each token, and of so many of the likeliest ones at its place: of the target as it is, before any penalty, "
        "temperature or filter. Left out: none.",
        examples=[5],
    )
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None,
        description="Likewise of the prompt's tokens, the first of which has none. The whole prompt of such a row is computed, whatever it shares with others.",
        examples=[5],
    )
    echo: bool = Field(
        default=False,
        description="Whether a text begins with its prompt, and its log probabilities, where topLogprobs asks for them, with the prompt's. Of prompts without a chat template.",
        examples=[True],
    )
    structured_output: StructuredOutput | None = Field(
        default=None,
        description="The form that every row's text is held to, token by token: JSON of a schema, an expression, one of some texts, or a grammar's.",
        examples=[{"regex": "yes|no"}],
    )
    reasoning: Literal["inline", "split"] = Field(
        default="inline",
        description="split: what a text holds up to </think> stands apart from it, as reasoning (reasoning_content in OpenAI's form); all of a text that is cut before it, where the text or its prompt opens a <think>.",
        examples=["split"],
    )
    from_model: bool = Field(
        default=False,
        description="Whether what stands at its default here is taken from the target's generation_config.json: temperature, topP, topK, minP (where it asks for "
        "sampling), the penalties and bans, minTokens, stop. The run says what it took.",
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
        "share pages of KV (most models on GPUs; `specbatch plan` says where not).",
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
