"""A tiny random pair with a real byte-level tokenizer and chat template, and specs that run it on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from specbatch.api.dataset import DatasetSpec
from specbatch.api.decoding import DecodingSpec
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.retry import Retrier
from specbatch.runner.rows.forms import RowRules

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'tool' -%}{{ raise_exception('no tools here') }}{%- endif -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking -%}<think>
</think>
{% endif -%}{%- endif -%}"""

_TEXTS = [
    "hello world, the quick brown fox jumps over the lazy dog. STOP. The END.\n\n### answer: 42",
    "你好世界。停止在这里。😀😃 naïve café Straße",
    "hello hello the the the STOP END ### 你好 世界 😀",
]


def byte_level_tokenizer(vocab_size: int = 384) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as those of GPT, Llama 3 and Qwen, trained in a few milliseconds."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|im_start|>", "<|im_end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|pad|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def sentencepiece_like_tokenizer() -> PreTrainedTokenizerFast:
    """A BPE tokenizer with byte fallback as that of Llama 2: a leading space is cut, bytes are tokens of their own."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁a", "▁b", "a", "b", "ab", "▁ab", "你", "END", "E", "N", "D", "EN"]
    backend = Tokenizer(
        models.BPE(
            vocab={piece: at for at, piece in enumerate(pieces)}, merges=[], byte_fallback=True, unk_token="<unk>"
        )
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def save_model(folder: Path, tokenizer: PreTrainedTokenizerFast, *, layers: int, seed: int) -> Path:
    """A random Qwen3 with its tokenizer."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: list[Any]) -> Path:
    """JSON lines; bytes go in as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read_lines(folder: Path, kind: str = "part") -> list[dict[str, Any]]:
    """The lines of all shards' files of a kind."""
    return [
        json.loads(line) for path in sorted(folder.glob(f"{kind}-*.jsonl")) for line in path.read_bytes().splitlines()
    ]


def spec_text(pair: tuple[Path, Path], uri: Path, results: Path) -> str:
    """The YAML of a job that runs the tiny pair on the CPU."""
    return f"""\
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata: {{name: tiny}}
spec:
  target: {{model: "{pair[0]}", dtype: float32}}
  drafter: {{model: "{pair[1]}", dtype: float32}}
  placement: {{gpus: 0, cpuThreads: 1}}
  decoding: {{maxNewTokens: 12, numSpeculativeTokens: 2}}
  batching: {{maxSequences: 4, maxLength: 128}}
  dataset: {{uri: "{uri}"}}
  results: {{dir: "{results}", report: false}}
"""


def row_rules(decoding: DecodingSpec | None = None, *, salt: str = "", target: Any = None, **dataset: Any) -> RowRules:
    """How rows are read, with fields of spec.dataset."""
    return RowRules(decoding or DecodingSpec(), DatasetSpec(uri="rows.jsonl", **dataset), target, salt)


def dataset_at(uri: object, retrier: Retrier | None = None, **fields: Any) -> Dataset:
    """The dataset of a URI or path, with further fields of spec.dataset."""
    return Dataset(DatasetSpec(uri=str(uri), **fields), retrier)
