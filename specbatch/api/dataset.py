"""Where the prompts come from and how a row is read."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from specbatch.api.base import Says, SpecModel, Text

_TEMPLATE_NAME = re.compile(r"[A-Za-z0-9_-]+")
DatasetFormat = Literal[
    "auto", "jsonl", "json", "csv", "tsv", "parquet", "arrow", "text", "messages", "openai", "alpaca", "sharegpt"
]  # fmt: skip
ErrorBudget = (
    Annotated[int, Field(ge=0, le=2**53)]
    | Annotated[
        str,
        Field(pattern=r"^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%$"),
        Says('a share in quotes such as "5%"'),
    ]
)


class ColumnsSpec(SpecModel):
    """What becomes of a row's columns that are data."""

    carry: Literal["all", "none"] | list[Text] = Field(
        default="all",
        description="Which columns of the input the result row repeats, under `columns`. all: those that are neither the prompt, the id, the answer nor "
        "an option of the row. Or a list of names, or none. It changes no row's text.",
        examples=[["category", "source"]],
    )


class TemplateMessage(SpecModel):
    """One message of a conversation that dataset.template makes."""

    role: Literal["system", "user", "assistant"] = Field(
        description="Who says it. The assistant's at the end is a beginning that the answer continues.",
        examples=["user"],
    )
    content: Text = Field(description="What is said: a Jinja template over the columns.", examples=["{{ question }}"])


class DatasetSpec(SpecModel):
    """The prompts: one row, one prompt."""

    uri: Text = Field(
        description="A file, a folder, a glob, or any fsspec URI (s3://, gs://, https://), or a dataset of the hub: hf://datasets/ORG/NAME. JSON (lines or an array), CSV, Parquet, Arrow or text, "
        "texts also compressed (gzip, zstd, bzip2, xz), told from a file's bytes (docs/DATASETS.md); what cannot be read is refused by name. "
        "Relative paths are relative to the current directory.",
        examples=["prompts.jsonl"],
    )
    config: Text | None = Field(
        default=None,
        description="The configuration (subset) of a Hugging Face dataset. Left out: the only one, or the default one.",
        examples=["main"],
    )
    split: Text | None = Field(
        default=None,
        description="The split of a Hugging Face dataset: of hf://datasets/ORG/NAME, a clone of it, or a folder of save_to_disk. Left out: the only one.",
        examples=["test"],
    )
    revision: Text | None = Field(
        default=None,
        description="The branch, tag or commit of a dataset on the hub. Left out: main, as it is when the run starts.",
        examples=["refs/convert/parquet"],
    )
    format: DatasetFormat = Field(
        default="auto",
        description="The kind of file, where its bytes do not tell it: jsonl, json (an array, or objects over several lines), csv, tsv, parquet, arrow. Or "
        'the form of a row. messages: {"messages": [...]}. openai: lines of OpenAI\'s batch API, answered in their form. alpaca: instruction and input. '
        "sharegpt: conversations of from and value. text: every line is a prompt. auto: found from the first rows, and text for .txt files.",
        examples=["alpaca"],
    )
    prompt_field: Text | None = Field(
        default=None,
        description="The column that holds the prompt: a text, or a conversation. Left out: found from the first rows.",
        examples=["question"],
    )
    template: Text | Annotated[list[TemplateMessage], Field(min_length=1)] | None = Field(
        default=None,
        description="The prompt as a Jinja template over the row's columns; or a list of messages, each with role and content, of which an assistant's at the "
        'end begins the answer. All columns are also in `row`: {{ row["my column"] }}. Values that are no text are written as JSON.',
        examples=["{{ context }}\n\nQuestion: {{ question }}"],
    )
    answer_field: Text | None = Field(
        default=None,
        description="The key of a reference answer. Where it is set, the share of rows whose text is exactly the answer is reported.",
        examples=["answer"],
    )
    id_field: Text = Field(
        default="id",
        description="The key of a row's own id; custom_id is taken first. A row without either gets an id from its content and position.",
        examples=["question_id"],
    )
    ignore_fields: list[Text] = Field(
        default_factory=list,
        max_length=256,
        description="Columns that are data, although options of requests are called so (docs/reference/row-options.md): they are passed over.",
        examples=[["system", "tools"]],
    )
    columns: ColumnsSpec = Field(
        default_factory=ColumnsSpec,
        description="What becomes of the columns that are data.",
        examples=[{"carry": ["category", "source"]}],
    )
    any_model: bool = Field(
        default=False,
        description="Whether requests of OpenAI's batch API that name another model are answered by the target. Otherwise they go to the errors file.",
        examples=[True],
    )
    chat_template: Text = Field(
        default="auto",
        description="How a prompt becomes the model's input. auto: the tokenizer's own chat template, or plain text where it has none. none: the prompt as it is. "
        "Or the name of one of the tokenizer's named templates (tool_use), or the path of a Jinja file, which has a dot or a slash in it.",
        examples=["none"],
    )
    system_prompt: str | None = Field(
        default=None,
        description="A system message put before every prompt that has none of its own. Needs a chat template.",
        examples=["Answer in one sentence."],
    )
    enable_thinking: bool | None = Field(
        default=None,
        description="Passed to the chat template of models that can think first (Qwen3). Left out: the template's own default.",
        examples=[False],
    )
    limit: Annotated[int, Field(ge=1, le=2**53)] | None = Field(
        default=None, description="Take only this many rows, from the first. For trying things out.", examples=[100]
    )
    retry_seconds: float = Field(
        default=60.0,
        ge=0,
        le=86400,
        description="How long a dataset in a store that has gone out of reach is tried again, before the run ends with exit code 68. Reading goes on "
        "at the byte that was reached. Before the first row it is 15 seconds at most.",
        examples=[600.0],
    )
    expect_rows: Annotated[int, Field(ge=1, le=2**53)] | None = Field(
        default=None,
        description="How many rows the dataset holds, where that is known. With more or fewer the run ends with 65 and without _SUCCESS; "
        "what was decoded is kept. It is no part of the run's identity.",
        examples=[10000],
    )
    error_budget: ErrorBudget | None = Field(
        default=None,
        description="How many bad rows (a number, or a share of the rows) the run accepts before it fails. Bad rows are written to the "
        "errors file in any case. Left out: no limit.",
        examples=["5%"],
    )

    @property
    def chat_template_file(self) -> str | None:
        """The path that `chat_template` is; None where it is auto, none, or a name of the tokenizer's: a word without dot or slash."""
        return None if _TEMPLATE_NAME.fullmatch(self.chat_template) else self.chat_template
