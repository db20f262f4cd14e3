"""The pair's one tokenizer: byte-level BPE with 512 entries, digits one by one, ChatML.

All 256 bytes are entries, so any Unicode text goes in and comes back unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tools.embedded_pair.tasks import generate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VOCAB_SIZE = 512
PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MAX_LENGTH = 2048

# Words with their leading space, single digits, runs of punctuation, runs of white space.
_PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Answer the question.",
    "You answer short questions exactly.",
    "Be brief and correct.",
)


def as_prompt(turns: Sequence[tuple[str, str]], question: str, system: str | None = None) -> str:
    """The text before the answer to `question`, after earlier (question, answer) turns: what the chat template gives."""
    text = f"{TURN_START}system\n{system}{TURN_END}\n" if system else ""
    for asked, answered in turns:
        text += f"{TURN_START}user\n{asked}{TURN_END}\n{TURN_START}assistant\n{answered}{TURN_END}\n"
    return f"{text}{TURN_START}user\n{question}{TURN_END}\n{TURN_START}assistant\n"


def _sample_text(seed: int, count: int) -> Iterator[str]:
    yield from SYSTEM_PROMPTS
    for task in generate(seed, count):
        yield f"user\n{task.prompt}"
        yield f"assistant\n{task.answer}"


def train_tokenizer(seed: int = 0, count: int = 20_000) -> PreTrainedTokenizerFast:
    """Learn the merges from `count` generated tasks; deterministic."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample_text(seed, count), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=TURN_END,
        additional_special_tokens=[TURN_START],
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_LENGTH,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )
