"""The decoding defaults in a model folder (generation_config.json, end of sequence): what a run does not follow is reported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from specbatch.api.decoding import DecodingSpec
from specbatch.errors import ModelError
from specbatch.formatting import one_line
from specbatch.runner.models.from_model import takes, with_defaults_of_model

DEMONSTRATION = (
    "embedded:target is there to try specbatch: it answers nineteen kinds of short instruction, and everything else with nonsense; "
    "for prompts of your own name a model, such as HuggingFaceTB/SmolLM2-135M-Instruct or Qwen/Qwen3-8B"
)

_FILE = "generation_config.json"
# What transformers' generate() would change the text by, and the values that change nothing (besides none).
_CHANGES_TEXT: Mapping[str, tuple[Any, ...]] = {
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "min_new_tokens": (0,),
    "min_length": (0,),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "forced_decoder_ids": ([],),
    "sequence_bias": ([], {}),
    "exponential_decay_length_penalty": (),
    "stop_strings": ([], ""),
    "guidance_scale": (1,),
    "watermarking_config": ({},),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "constraints": ([],),
    "force_words_ids": ([],),
    "token_healing": (False,),
    "max_time": (),
}
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff")
_SHOWN_CHARS = 60


class ModelDefaults:
    """The generation defaults of a model, as transformers reads them: generation_config.json, else config.json.

    Args:
        path: the model's folder, or a .gguf file, which has none.
        name: the model's, for messages.

    Raises:
        ModelError: a file is no JSON object, or an end-of-sequence in it is no token.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        self._path = path
        self._config = _read(path / "config.json", name)
        found = _read(path / _FILE, name)
        self._source = _FILE if found is not None else "config.json"
        self._defaults = (found if found is not None else self._config) or {}
        self._eos = self._eos_ids()

    def warnings(self, tokenizer: PreTrainedTokenizerBase, decoding: DecodingSpec) -> list[str]:
        """A sentence for each thing that the model asks for and a run does not do, or does otherwise than its tokenizer says."""
        asked = (self._not_honoured(taken=decoding.from_model), self._other_end(tokenizer, decoding))
        return [text for text in asked if text]

    def decoding(self, decoding: DecodingSpec) -> tuple[DecodingSpec, str]:
        """See `with_defaults_of_model`."""
        return with_defaults_of_model(decoding, self._defaults, self._name)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """As the engine has them; empty for a .gguf file, whose tokenizer knows."""
        return tuple(self._eos)

    @property
    def sampling(self) -> str:
        """Which sampling the model comes with, which spec.decoding replaces; empty where it is greedy."""
        if self._defaults.get("do_sample") is not True:
            return ""
        named = [f"{name} {_show(self._defaults[name])}" for name in _SAMPLING if self._defaults.get(name) is not None]
        return ", ".join(named)

    def sampling_sentence(self, decoding: DecodingSpec, taken: str) -> str:
        """What a run takes of the model's sampling, or does not; empty where there is nothing to say."""
        if taken:
            return f"from the target's generation_config.json (decoding.fromModel): {taken}"
        if not self.sampling or decoding.from_model:
            return ""
        return f"the target's own sampling ({self.sampling}) is not used: spec.decoding counts (decoding.fromModel: true takes it)"

    def _not_honoured(self, *, taken: bool) -> str:
        asked = {
            name: value
            for name, none in _CHANGES_TEXT.items()
            if (value := self._defaults.get(name)) is not None and value not in none and not (taken and takes(name))
        }
        if not asked:
            return ""
        named = ", ".join(f"{name} {_show(value)}" for name, value in asked.items())
        return (
            f"{self._source} of {self._name} asks for {named}, which {'specbatch does not honour' if taken else 'this run does not honour'}: "
            "transformers' generate() would give another text"
            + ("; decoding.fromModel: true takes them" if not taken and all(map(takes, asked)) else "")
        )

    def _other_end(self, tokenizer: PreTrainedTokenizerBase, decoding: DecodingSpec) -> str:
        own, token = getattr(tokenizer, "eos_token_id", None), getattr(tokenizer, "eos_token", None)
        if own is None or decoding.ignore_eos or str(token) in decoding.stop or self._path.is_file():
            return ""  # a GGUF file has one end-of-sequence for both
        if own in self._eos:
            return ""
        token = str(token)[:_SHOWN_CHARS]
        ends = f"with token {', '.join(map(str, self._eos))}" if self._eos else "with none"
        return (
            f"the tokenizer of {self._name} ends a sequence with {token} (token {own}), its configs {ends}: as in transformers' "
            f"generate() the configs' counts, and rows may run on past {token} to maxNewTokens; "
            f'with decoding.stop: ["{token}"] they end there'
        )

    def _eos_ids(self) -> list[int]:
        """As the engine has them (`CausalLM.eos_token_ids`)."""
        config = self._config or {}
        text_config = config.get("text_config")
        places = [(self._source, self._defaults), ("config.json", config)]
        if isinstance(text_config, dict):
            places.append(("config.json's text_config", text_config))
        for source, fields in places:
            found = fields.get("eos_token_id")
            if found is None:
                continue
            ids = found if isinstance(found, list) else [found]
            if not all(type(one) is int for one in ids):
                raise ModelError(
                    f"eos_token_id in {source} is {_show(found)}, which is no token id",
                    where=self._name,
                    remedy="write the number of the end-of-sequence token, or a list of numbers",
                )
            return ids
        return _default_eos(self._path) if config else []


def _default_eos(path: Path) -> list[int]:
    """Of an architecture whose config leaves it out."""
    from transformers import AutoConfig  # noqa: PLC0415 - only for the few configs without

    try:
        found = AutoConfig.from_pretrained(str(path), local_files_only=True).eos_token_id
    except Exception:  # noqa: BLE001 - loading the model says what is wrong with it
        return []
    ids = found if isinstance(found, list) else [found]
    return [one for one in ids if type(one) is int]


def _read(file: Path, name: str) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_bytes())
        if not isinstance(found, dict):
            raise TypeError(f"{type(found).__name__} instead of an object")  # noqa: TRY301 - one more kind of damage
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{file.name} cannot be read: {error}", where=name, remedy="download the file again"
        ) from error
    return found


def _show(value: Any) -> str:
    return one_line(json.dumps(value), _SHOWN_CHARS)
