"""The options of a row: every name that OpenAI, vLLM, transformers, TGI or Ollama know, and what becomes of it here.

A name in this table is honoured, or the row is refused; every other column is data. To honour one more, give its line `sets=`.
docs/reference/row-options.md is made from this table.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

_LONGEST_NAME = 64  # characters: a longer column is data
_SHORTEST_VARIANT = 3  # of a shorter name no other case counts: N is nitrogen as often as n
_NEARLY = 0.85  # the likeness of names from which one is taken for a misspelt other


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOption:
    """One option.

    Args:
        name: as OpenAI or vLLM call it, where they do.
        also: other names of the same. Case, `_`, `-` and spaces make no difference in any of them.
        sets: what it sets: a field of DecodingSpec, or what `options` makes of it. Empty: not honoured.
        harmless: it says nothing about the text, and is passed over.
        holds: what a mapping of further options holds: `options` of this table.
        neutral: values that ask for nothing beyond what is done anyway. Null never does, nor do empty values of an option that is not honoured.
        only: types (or values) as which a column is this option; as another it is data. Empty: as any.
        remedy: what to do instead, where there is more to say than to take it out.
    """

    name: str
    also: tuple[str, ...] = ()
    sets: str = ""
    harmless: bool = False
    holds: str = ""
    neutral: tuple[Any, ...] = ()
    only: tuple[type | str, ...] = ()
    remedy: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All its names, the usual one first."""
        return (self.name, *self.also)

    def is_meant_by(self, value: Any) -> bool:
        """Whether a column of this name is the option, by what it holds; it is data otherwise."""
        if not self.only or value in [one for one in self.only if isinstance(one, str)]:
            return True
        if self.holds:  # {"A": "...", "B": "..."}, the choices of a question, are often called options
            return isinstance(value, dict) and any(find_option(name) is not None for name in value)
        return type(value) in self.only

    def asks_nothing(self, value: Any) -> bool:
        """Whether the value changes nothing; 1 and true are different values here, as in JSON."""
        if value is None or (isinstance(value, str | list | dict) and not value):
            return True
        return any(isinstance(value, bool) == isinstance(one, bool) and value == one for one in self.neutral)


_O = RowOption
OPTIONS: dict[str, Sequence[RowOption]] = {
    "How tokens are chosen": (
        _O(name="temperature", sets="temperature"),
        _O(name="top_p", sets="top_p"),
        _O(name="top_k", sets="top_k"),
        _O(name="seed", sets="seed"),
        _O(name="do_sample", sets="do_sample"),
        _O(name="min_p", sets="min_p"),
        _O(name="top_a", neutral=(0,)),
        _O(name="top_h", neutral=(1,)),
        _O(name="tfs_z", neutral=(1,)),
        _O(name="typical_p", neutral=(1,)),
        _O(name="epsilon_cutoff", also=("eta_cutoff",), neutral=(0,)),
        _O(name="mirostat", neutral=(0,)),
        _O(name="presence_penalty", sets="presence_penalty"),
        _O(name="frequency_penalty", sets="frequency_penalty"),
        _O(name="repetition_penalty", sets="repetition_penalty"),
        _O(name="repeat_penalty", neutral=(1,), remedy="repetition_penalty looks at all tokens, not at the last few"),
        _O(name="encoder_repetition_penalty", also=("encoder_no_repeat_ngram_size",), neutral=(0, 1)),
        _O(name="no_repeat_ngram_size", sets="no_repeat_ngram_size"),
        _O(name="penalty_alpha", neutral=(0,)),
        _O(name="dola_layers"),
        _O(name="guidance_scale", neutral=(1,)),
        _O(name="logit_bias", sets="logit_bias"),
        _O(name="sequence_bias", remedy="logit_bias takes single tokens"),
        _O(name="logits_processors", also=("logits_processor",)),
        _O(name="bad_words", also=("bad_words_ids",), sets="bad_words"),
        _O(name="allowed_token_ids"),
        _O(name="suppress_tokens", sets="suppress_tokens"),
        _O(name="begin_suppress_tokens", sets="begin_suppress_tokens"),
        _O(name="force_words_ids", also=("forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids")),
        _O(name="exponential_decay_length_penalty"),
        _O(name="renormalize_logits", also=("remove_invalid_values", "token_healing"), neutral=(False,)),
        _O(name="watermark", also=("watermarking_config",), neutral=(False,)),
        _O(name="response_format", sets="structured_output", neutral=({"type": "text"},)),
        _O(name="structured_outputs", also=("guided_decoding",), sets="structured_output"),
        _O(name="guided_json", also=("json_schema",), sets="structured_output"),
        _O(name="guided_regex", sets="structured_output"),
        _O(name="guided_choice", sets="structured_output"),
        _O(name="guided_grammar", also=("grammar", "ebnf"), sets="structured_output"),
        _O(name="format", sets="structured_output", only=(dict, "json")),
        _O(name="structural_tag"),
        _O(name="use_beam_search", neutral=(False,)),
        _O(name="num_beams", also=("beam_width", "num_beam_groups"), neutral=(1,)),
        _O(name="diversity_penalty", neutral=(0,)),
    ),
    "Where the text ends": (
        _O(
            name="max_tokens",
            also=("max_new_tokens", "max_completion_tokens", "max_output_tokens", "num_predict", "n_predict"),
            sets="max_new_tokens",
        ),
        _O(name="stop", also=("stop_sequences", "stop_strings"), sets="stop"),
        _O(name="ignore_eos", sets="ignore_eos"),
        _O(name="until", only=(list,), remedy="call it stop"),
        _O(name="stop_token_ids", sets="stop_token_ids"),
        _O(
            name="eos_token_id",
            remedy="call it stop_token_ids; the model's own end of text counts too, unless ignore_eos is true",
        ),
        _O(name="include_stop_str_in_output", neutral=(False,)),
        _O(name="min_tokens", also=("min_new_tokens",), sets="min_tokens"),
        _O(name="min_length", neutral=(0,), remedy="min_tokens counts the new tokens alone"),
        _O(name="max_length", remedy="max_tokens counts the new tokens alone"),
        _O(name="max_time"),
        _O(name="thinking_token_budget", also=("thinking_budget",)),
    ),
    "The prompt": (
        _O(name="system", also=("system_prompt",), sets="system_prompt"),
        _O(name="enable_thinking", sets="enable_thinking"),
        _O(name="think", sets="enable_thinking", only=(bool,)),
        _O(name="chat_template_kwargs", also=("chat_template_args",), sets="template_kwargs"),
        _O(name="reasoning_effort"),
        _O(name="reasoning", sets="reasoning", only=("split", "inline", dict)),
        _O(name="verbosity"),
        _O(name="tools", also=("functions",), sets="tools", only=(list,)),
        _O(name="tool_choice", also=("function_call",), sets="tool_choice", neutral=("none", "auto")),
        _O(name="parallel_tool_calls", sets="parallel_tool_calls", neutral=(True, False)),
        _O(name="documents", only=(list,)),
        _O(name="chat_template", remedy="one template a run: dataset.chatTemplate"),
        _O(name="instructions", remedy="call it system"),
        _O(name="input", also=("inputs",), remedy="name the column of the prompt in dataset.promptField"),
        _O(name="prompt_token_ids", also=("input_ids", "prompt_embeds", "inputs_embeds")),
        _O(name="images", also=("multi_modal_data", "multi_modal_uuids", "mm_processor_kwargs")),
        _O(name="audio", only=(dict,)),
        _O(name="suffix"),
        _O(name="context", only=(list,)),
        _O(name="raw", only=(bool,), neutral=(False,), remedy="set dataset.chatTemplate: none"),
        _O(name="truncate_prompt_tokens", neutral=(-1,)),
        _O(name="truncate", only=(int,)),
        _O(name="truncation", neutral=("disabled", False)),
        _O(name="num_ctx", remedy="one length for all rows: batching.maxLength"),
        _O(name="add_generation_prompt", sets="add_generation_prompt", neutral=(True,)),
        _O(name="continue_final_message", sets="continue_final_message", neutral=(False,)),
        _O(name="add_special_tokens"),
        _O(name="previous_response_id"),
        _O(name="adapter_id", also=("lora_request",), remedy="merge the adapter into the target's weights"),
    ),
    "What comes back": (
        _O(name="n", also=("num_return_sequences",), sets="n", neutral=(1,)),
        _O(name="best_of", neutral=(1,)),
        _O(name="logprobs", sets="logprobs", neutral=(False,)),
        _O(name="top_logprobs", also=("top_n_tokens", "n_probs"), sets="top_logprobs", neutral=(0,)),
        _O(name="prompt_logprobs", sets="prompt_logprobs", neutral=(False,)),
        _O(name="echo", also=("return_full_text",), sets="echo", neutral=(False,)),
        _O(name="stream", neutral=(False,)),
        _O(name="details", only=(bool,), neutral=(False,)),
        _O(
            name="return_token_ids",
            also=("decoder_input_details", "return_tokens_as_token_ids", "return_dict_in_generate"),
            neutral=(False,),
        ),
        _O(name="output_scores", also=("output_logits", "output_attentions", "output_hidden_states"), neutral=(False,)),
        _O(name="modalities", neutral=(["text"],)),
        _O(name="prediction"),
        _O(name="web_search_options"),
        _O(name="skip_special_tokens", also=("detokenize", "spaces_between_special_tokens"), neutral=(True,)),
        _O(name="clean_up_tokenization_spaces", neutral=(False,)),
        _O(name="include_reasoning", neutral=(True,)),
    ),
    "Further options in one mapping": (
        _O(name="sampling_params", also=("sampling_parameters", "sampling_config"), holds="options"),
        _O(name="generation_config", also=("generation_kwargs", "gen_kwargs", "generate_kwargs"), holds="options"),
        _O(name="extra_body", also=("extra_args", "vllm_xargs"), holds="options"),
        _O(name="parameters", holds="options", only=(dict,)),
        _O(name="options", holds="options", only=(dict,)),
    ),
    "Without a say in the text: passed over": (
        _O(name="model", harmless=True),
        _O(name="user", also=("safety_identifier",), harmless=True),
        _O(name="metadata", also=("request_id",), harmless=True),
        _O(name="store", also=("background",), harmless=True),
        _O(name="service_tier", also=("priority",), harmless=True),
        _O(name="stream_options", harmless=True),
        _O(name="prompt_cache_key", also=("prompt_cache_retention", "cache_salt", "keep_alive"), harmless=True),
        _O(name="use_cache", also=("cache_implementation", "cache_config", "disable_compile"), harmless=True),
        _O(name="num_thread", also=("num_gpu", "main_gpu", "num_batch", "numa", "use_mmap", "low_vram"), harmless=True),
        _O(name="pad_token_id", also=("bos_token_id", "transformers_version"), harmless=True),
        # These count only beside another option, which is refused.
        _O(name="length_penalty", also=("early_stopping", "guided_decoding_backend", "repeat_last_n"), harmless=True),
        _O(name="mirostat_eta", also=("mirostat_tau", "num_keep", "penalize_newline"), harmless=True),
    ),
}


def _plain(name: str) -> str:
    """A name without what people write differently: ignoreEOS, ignore_eos, Ignore-EOS."""
    return name.translate(_LEFT_OUT).lower()


_LEFT_OUT = str.maketrans("", "", "_- ")
_BY_NAME = {_plain(name): option for option in chain(*OPTIONS.values()) for name in option.names}
# Whoever nearly writes one of these means it: no column of data is called so.
_UNMISTAKABLE = [
    *("maxNewTokens", "topP", "topK", "ignoreEos"),
    *(
        name
        for option in chain(*OPTIONS.values())
        if option.sets not in {"", "system_prompt"} and not option.only
        for name in option.names
    ),
]


@lru_cache(maxsize=1024)  # a dataset has the same fields in every row
def find_option(name: str) -> RowOption | None:
    """The option of this name; None for any other column."""
    if len(name) > _LONGEST_NAME:
        return None
    option = _BY_NAME.get(_plain(name))
    short = option is not None and len(_plain(name)) < _SHORTEST_VARIANT and name not in option.names
    return None if short else option


@lru_cache(maxsize=1024)
def nearest_option(name: str) -> str | None:
    """The option that this name misspells; None where it is likely none."""
    if len(name) > _LONGEST_NAME:
        return None
    return next(iter(difflib.get_close_matches(name, _UNMISTAKABLE, n=1, cutoff=_NEARLY)), None)
