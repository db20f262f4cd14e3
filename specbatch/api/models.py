"""The two models: the target whose text is wanted, and the drafter that makes it fast."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from specbatch.api.base import Says, SpecModel

Dtype = Literal["auto", "bfloat16", "float32"]

KVDtype = Literal["auto", "fp8"]

ModelRef = Annotated[
    str,
    Field(pattern=r"^\S(.*\S)?$"),
    Says("a hub id (Qwen/Qwen3-8B), a folder (models/qwen3-8b), or embedded:target / embedded:drafter"),
]

AdapterRef = Annotated[str, Field(pattern=r"^\S(.*\S)?$"), Says("a folder with adapter_config.json")]

_DTYPE = "The number format of the weights in memory. auto: the format that they are stored in. On a CPU float32 is the fastest."
_REVISION = "The commit, tag or branch of a hub id. Pin a commit: then the same spec gives the same text next year. Only for hub ids."
_TRUST = "Whether Python code that comes with the model may run. Leave it off unless you have read that code."


class TargetSpec(SpecModel):
    """The target: the large model whose output is wanted, exactly."""

    model: ModelRef = Field(
        description="A hub id, a local folder, or embedded:target. A folder holds safetensors or GGUF; embedded:target is the small demonstration model inside "
        "the package. Relative folders are relative to the current directory.",
        examples=["Qwen/Qwen3-8B"],
    )
    revision: str | None = Field(default=None, description=_REVISION, examples=["main"], min_length=1)
    dtype: Dtype = Field(default="auto", description=_DTYPE, examples=["bfloat16"])
    kv_dtype: KVDtype = Field(
        default="auto",
        description="The number format of keys and values. auto: dtype. fp8: e4m3 under a scale of each token and head, half the memory: more and longer rows at once, less to read "
        "of long ones. It makes another model of the target, with KV in FP8, to which the text is exact. Faster on NVIDIA GPUs from 8.9 on (Ada, Hopper) in recorded rounds; "
        "elsewhere keys and values are rounded alike, and nothing is saved. With vLLM it is kv_cache_dtype.",
        examples=["fp8"],
    )
    trust_remote_code: bool = Field(default=False, description=_TRUST, examples=[False])
    adapter: AdapterRef | None = Field(
        default=None,
        description="A LoRA adapter on top of the target, for every row: a folder with adapter_config.json and safetensors. Only with engine.name vllm.",
        examples=["adapters/support"],
    )


class DrafterSpec(SpecModel):
    """The drafter: proposes tokens that the target then verifies, several at once. It changes the speed, never the text."""

    method: Literal["model", "eagle3", "mtp", "ngram"] = Field(
        default="model",
        description="Where the drafts come from: a model, or text that is there. model: a small model with the target's vocabulary, or an EAGLE-3 head, by what its config.json "
        "says. eagle3: an EAGLE-3 head made for this target, and nothing else: one layer that drafts from the target's own hidden states. mtp: the layer for drafting that the target itself brings (MiMo-7B). ngram: the "
        "last tokens are looked up in the row's prompt and text, and in rows that have finished; needs no model, and pays where outputs repeat inputs (code, extraction, "
        "summaries) or each other (one JSON form for all).",
        examples=["ngram"],
    )
    model: ModelRef | None = Field(
        default=None,
        description="The drafter model, in the same forms as target.model. Required with methods model and eagle3, refused with mtp and ngram.",
        examples=["Qwen/Qwen3-1.7B"],
    )
    revision: str | None = Field(default=None, description=_REVISION, examples=["main"], min_length=1)
    dtype: Dtype = Field(default="auto", description=_DTYPE, examples=["bfloat16"])
    trust_remote_code: bool = Field(default=False, description=_TRUST, examples=[False])
    quantization: Literal["fp8", "int8", "int4"] | None = Field(
        default=None,
        description="Weights of a drafter model in fewer bits, made from bfloat16 or float32 when it is loaded: a draft step reads a half (fp8, int8) or a quarter (int4) of them. "
        "int8 keeps most of the acceptance, fp8 nearly as much, int4 loses some. It saves memory; it is faster on GPUs: int8 for a few rows, fp8, which rounds inputs, "
        "too, for tens (Ada, Hopper or later): measure it. Not for mixtures of experts and heads (eagle3, mtp), nor with method ngram or engine.name vllm.",
        examples=["int8"],
    )
    kv_dtype: KVDtype = Field(
        default="auto",
        description="As target.kvDtype, of a draft model's keys and values: what long rows' draft steps read most of. It costs next to no acceptance, and by acceptanceRule "
        "coupled changes no text. Not with methods eagle3, mtp and ngram or engine.name vllm.",
        examples=["fp8"],
    )
    window: int | None = Field(
        default=None,
        ge=16,
        le=2**20,
        description="A draft model sees a row's first 16 tokens and at least so many of its last ones, at most twice as many, in place of all: its KV and its part of a long prompt "
        "become those of a short row. Some drafts are lost where the middle mattered. For recorded rounds on GPUs: the general engine, which cannot, drafts from whole rows. "
        "Not with methods eagle3, mtp and ngram, acceptanceRule rejection or engine.name vllm.",
        examples=[512],
    )
    prompt_lookup_max: int = Field(
        default=4,
        ge=1,
        le=16,
        description="Method ngram: the longest run of last tokens to look up.",
        examples=[4],
    )
    prompt_lookup_min: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Method ngram: the shortest run of last tokens to look up. Raise it when drafts are often wrong.",
        examples=[2],
    )
