"""Shapes of well-known models, so that `specbatch plan` works on a laptop without their files.

Each line of the table is a config.json, cut to what a shape needs. A config.json that is at hand always wins. How each model's parts are
counted: `families.py`; `tests/plan/shapes/test_known_models.py` holds every line against the parameters that its model card or checkpoint has.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

_COLUMNS = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)

# model_type, the columns above, what else (tied: the head is the embedding; bias: of queries, keys and values; 128x8x768: experts, how many a
# token uses, their width; window4096: layers that look back only so far), and the hub ids, in which {a,b} stands for either.
_TABLE = """
qwen3       28  1024 16  8 128  3072 151936  40960 tied           Qwen/Qwen3-0.6B{,-Base}
qwen3       28  2048 16  8 128  6144 151936  40960 tied           Qwen/Qwen3-1.7B{,-Base}
qwen3       36  2560 32  8 128  9728 151936  40960 tied           Qwen/Qwen3-4B{,-Base}
qwen3       36  2560 32  8 128  9728 151936 262144 tied           Qwen/Qwen3-4B-{Instruct,Thinking}-2507
qwen3       36  4096 32  8 128 12288 151936  40960 -              Qwen/Qwen3-8B{,-Base}
qwen3       36  4096 32  8 128 12288 151936 131072 -              deepseek-ai/DeepSeek-R1-0528-Qwen3-8B
qwen3       40  5120 40  8 128 17408 151936  40960 -              Qwen/Qwen3-14B{,-Base}
qwen3       64  5120 64  8 128 25600 151936  40960 -              Qwen/Qwen3-32B
qwen3_moe   48  2048 32  4 128  6144 151936  40960 128x8x768      Qwen/Qwen3-30B-A3B{,-Base}
qwen3_moe   48  2048 32  4 128  6144 151936 262144 128x8x768      Qwen/Qwen3-30B-A3B-{Instruct,Thinking}-2507 Qwen/Qwen3-Coder-30B-A3B-Instruct
qwen3_moe   94  4096 64  4 128 12288 151936  40960 128x8x1536     Qwen/Qwen3-235B-A22B
qwen3_moe   94  4096 64  4 128 12288 151936 262144 128x8x1536     Qwen/Qwen3-235B-A22B-{Instruct,Thinking}-2507
qwen3_moe   62  6144 96  8 128  8192 151936 262144 160x8x2560     Qwen/Qwen3-Coder-480B-A35B-Instruct
qwen2       24   896 14  2  64  4864 151936  32768 tied           Qwen/Qwen2.5-{,Coder-}0.5B{,-Instruct} Qwen/Qwen2-0.5B{,-Instruct}
qwen2       28  1536 12  2 128  8960 151936  32768 tied           Qwen/Qwen2.5-{,Coder-}1.5B{,-Instruct} Qwen/Qwen2-1.5B{,-Instruct}
qwen2       28  1536 12  2 128  8960 151936   4096 tied           Qwen/Qwen2.5-Math-1.5B{,-Instruct}
qwen2       28  1536 12  2 128  8960 151936 131072 -              deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B
qwen2       36  2048 16  2 128 11008 151936  32768 tied           Qwen/Qwen2.5-{,Coder-}3B{,-Instruct}
qwen2       28  3584 28  4 128 18944 152064  32768 -              Qwen/Qwen2.5-{,Coder-}7B{,-Instruct} Qwen/Qwen2-7B{,-Instruct}
qwen2       28  3584 28  4 128 18944 152064   4096 -              Qwen/Qwen2.5-Math-7B{,-Instruct}
qwen2       28  3584 28  4 128 18944 152064 131072 -              deepseek-ai/DeepSeek-R1-Distill-Qwen-7B
qwen2       48  5120 40  8 128 13824 152064  32768 -              Qwen/Qwen2.5-{,Coder-}14B{,-Instruct}
qwen2       48  5120 40  8 128 13824 152064 131072 -              deepseek-ai/DeepSeek-R1-Distill-Qwen-14B
qwen2       64  5120 40  8 128 27648 152064  32768 -              Qwen/Qwen2.5-{,Coder-}32B{,-Instruct}
qwen2       64  5120 40  8 128 27648 152064 131072 -              deepseek-ai/DeepSeek-R1-Distill-Qwen-32B
qwen2       64  5120 40  8 128 27648 152064  40960 -              Qwen/QwQ-32B
qwen2       80  8192 64  8 128 29568 152064  32768 -              Qwen/Qwen2.5-72B{,-Instruct} Qwen/Qwen2-72B{,-Instruct}
llama       22  2048 32  4  64  5632  32000   2048 -              TinyLlama/TinyLlama-1.1B-Chat-v1.0
llama       32  4096 32 32 128 11008  32000   4096 -              meta-llama/Llama-2-7b{,-chat}-hf
llama       40  5120 40 40 128 13824  32000   4096 -              meta-llama/Llama-2-13b{,-chat}-hf
llama       80  8192 64  8 128 28672  32000   4096 -              meta-llama/Llama-2-70b{,-chat}-hf
llama       32  4096 32  8 128 14336 128256   8192 -              meta-llama/Meta-Llama-3-8B{,-Instruct}
llama       80  8192 64  8 128 28672 128256   8192 -              meta-llama/Meta-Llama-3-70B{,-Instruct}
llama       32  4096 32  8 128 14336 128256 131072 -              meta-llama/{,Meta-}Llama-3.1-8B{,-Instruct} deepseek-ai/DeepSeek-R1-Distill-Llama-8B nvidia/Llama-3.1-Nemotron-Nano-8B-v1
llama       80  8192 64  8 128 28672 128256 131072 -              meta-llama/{,Meta-}Llama-3.1-70B{,-Instruct} meta-llama/Llama-3.3-70B-Instruct deepseek-ai/DeepSeek-R1-Distill-Llama-70B nvidia/Llama-3.1-Nemotron-70B-Instruct-HF
llama      126 16384 128 8 128 53248 128256 131072 -              meta-llama/{,Meta-}Llama-3.1-405B{,-Instruct}
llama       16  2048 32  8  64  8192 128256 131072 tied           meta-llama/Llama-3.2-1B{,-Instruct}
llama       28  3072 24  8 128  8192 128256 131072 tied           meta-llama/Llama-3.2-3B{,-Instruct}
llama       30   576  9  3  64  1536  49152   8192 tied           HuggingFaceTB/SmolLM2-135M{,-Instruct}
llama       32   960 15  5  64  2560  49152   8192 tied           HuggingFaceTB/SmolLM2-360M{,-Instruct}
llama       24  2048 32 32  64  8192  49152   8192 tied           HuggingFaceTB/SmolLM2-1.7B{,-Instruct}
smollm3     36  2048 16  4 128 11008 128256  65536 tied           HuggingFaceTB/SmolLM3-3B{,-Base}
llama       32  4096 32  4 128 11008  64000   4096 -              01-ai/Yi-{,1.5-}6B{,-Chat}
llama       48  4096 32  4 128 11008  64000   4096 -              01-ai/Yi-{,1.5-}9B{,-Chat}
llama       60  7168 56  8 128 20480  64000   4096 -              01-ai/Yi-{,1.5-}34B{,-Chat}
llama       18  2048  8  4 256  8192 131072   8192 -              tiiuae/Falcon3-1B-{Base,Instruct}
llama       22  3072 12  4 256  9216 131072  32768 -              tiiuae/Falcon3-3B-{Base,Instruct}
llama       28  3072 12  4 256 23040 131072  32768 -              tiiuae/Falcon3-7B-{Base,Instruct}
llama       40  3072 12  4 256 23040 131072  32768 -              tiiuae/Falcon3-10B-{Base,Instruct}
mistral     32  4096 32  8 128 14336  32000  32768 window4096     mistralai/Mistral-7B-v0.1 mistralai/Mistral-7B-Instruct-v0.1
mistral     32  4096 32  8 128 14336  32000  32768 -              mistralai/Mistral-7B-Instruct-v0.2
mistral     32  4096 32  8 128 14336  32768  32768 -              mistralai/Mistral-7B-v0.3 mistralai/Mistral-7B-Instruct-v0.3
mistral     36  4096 32  8 128 12288 131072  32768 window32768    mistralai/Ministral-8B-Instruct-2410
mistral     40  5120 32  8 128 14336 131072 131072 -              mistralai/Mistral-Nemo-{Base,Instruct}-2407
mistral     56  6144 48  8 128 16384  32768  32768 -              mistralai/Codestral-22B-v0.1 mistralai/Mistral-Small-Instruct-2409
mistral     40  5120 32  8 128 32768 131072  32768 -              mistralai/Mistral-Small-24B-{Base,Instruct}-2501
mistral     40  5120 32  8 128 32768 131072 131072 -              mistralai/Devstral-Small-2505
mistral     88 12288 96  8 128 28672  32768 131072 -              mistralai/Mistral-Large-Instruct-{2407,2411}
mixtral     32  4096 32  8 128 14336  32000  32768 8x2x14336      mistralai/Mixtral-8x7B-v0.1 mistralai/Mixtral-8x7B-Instruct-v0.1
mixtral     56  6144 48  8 128 16384  32768  65536 8x2x16384      mistralai/Mixtral-8x22B-Instruct-v0.1
gemma       18  2048  8  1 256 16384 256000   8192 tied           google/gemma-2b{,-it} google/gemma-1.1-2b-it
gemma       28  3072 16 16 256 24576 256000   8192 tied           google/gemma-7b{,-it} google/gemma-1.1-7b-it
gemma2      26  2304  8  4 256  9216 256000   8192 tied,window4096 google/gemma-2-2b{,-it}
gemma2      42  3584 16  8 256 14336 256000   8192 tied,window4096 google/gemma-2-9b{,-it}
gemma2      46  4608 32 16 128 36864 256000   8192 tied,window4096 google/gemma-2-27b{,-it}
gemma3_text 18   640  4  1 256  2048 262144  32768 tied,window512 google/gemma-3-270m{,-it}
gemma3_text 26  1152  4  1 256  6912 262144  32768 tied,window512 google/gemma-3-1b-{pt,it}
gemma3      34  2560  8  4 256 10240 262208 131072 tied,window1024 google/gemma-3-4b-{pt,it}
gemma3      48  3840 16  8 256 15360 262208 131072 tied,window1024 google/gemma-3-12b-{pt,it}
gemma3      62  5376 32 16 128 21504 262208 131072 tied,window1024 google/gemma-3-27b-{pt,it}
phi3        32  3072 32 32  96  8192  32064   4096 window2047     microsoft/Phi-3-mini-4k-instruct
phi3        32  3072 32 32  96  8192  32064 131072 window262144   microsoft/Phi-3-mini-128k-instruct microsoft/Phi-3.5-mini-instruct
phi3        40  5120 40 10 128 17920  32064   4096 window2047     microsoft/Phi-3-medium-4k-instruct
phi3        32  3072 24  8 128  8192 200064 131072 tied           microsoft/Phi-4-mini-{instruct,reasoning}
phi3        40  5120 40 10 128 17920 100352  16384 -              microsoft/phi-4
phi3        40  5120 40 10 128 17920 100352  32768 -              microsoft/Phi-4-reasoning{,-plus}
olmo2       16  2048 16 16 128  8192 100352   4096 -              allenai/OLMo-2-0425-1B{,-Instruct}
olmo2       32  4096 32 32 128 11008 100352   4096 -              allenai/OLMo-2-1124-7B{,-Instruct}
olmo2       40  5120 40 40 128 13824 100352   4096 -              allenai/OLMo-2-1124-13B{,-Instruct}
olmo2       64  5120 40  8 128 27648 100352   4096 -              allenai/OLMo-2-0325-32B{,-Instruct}
olmo3       32  4096 32 32 128 11008 100278  65536 window4096     allenai/Olmo-3-1025-7B allenai/Olmo-3-7B-{Instruct,Think}
olmo3       64  5120 40  8 128 27648 100278  65536 window4096     allenai/Olmo-3-1125-32B allenai/Olmo-3-32B-Think
granite     40  2048 32  8  64  8192  49155   4096 tied           ibm-granite/granite-3.0-2b-{base,instruct}
granite     40  4096 32  8 128 12800  49155   4096 tied           ibm-granite/granite-3.0-8b-{base,instruct}
granite     40  2048 32  8  64  8192  49155 131072 tied           ibm-granite/granite-3.1-2b-{base,instruct}
granite     40  4096 32  8 128 12800  49155 131072 tied           ibm-granite/granite-3.1-8b-{base,instruct}
granite     40  2048 32  8  64  8192  49159 131072 tied           ibm-granite/granite-3.3-2b-{base,instruct}
granite     40  4096 32  8 128 12800  49159 131072 tied           ibm-granite/granite-3.3-8b-{base,instruct}
glm         40  4096 32  2 128 13696 151552 131072 bias           zai-org/glm-4-9b-chat-hf THUDM/glm-4-9b-chat-hf
glm4        40  4096 32  2 128 13696 151552  32768 bias           zai-org/GLM-{4,Z1}-9B-0414 THUDM/GLM-{4,Z1}-9B-0414
glm4        61  6144 48  2 128 23040 151552  32768 -              zai-org/GLM-{4,Z1}-32B-0414 THUDM/GLM-{4,Z1}-32B-0414
seed_oss    64  5120 80  8 128 27648 155136 524288 bias           ByteDance-Seed/Seed-OSS-36B-{Base,Instruct}
cohere      40  8192 64 64 128 22528 256000   8192 tied           CohereLabs/c4ai-command-r-v01 CohereForAI/c4ai-command-r-v01
cohere      32  4096 32  8 128 14336 256000   8192 tied           CohereLabs/aya-expanse-8b CohereForAI/aya-expanse-8b
cohere2     32  4096 32  8 128 14336 256000 132096 tied,window4096 CohereLabs/c4ai-command-r7b-12-2024 CohereForAI/c4ai-command-r7b-12-2024
gpt_oss     24  2880 64  8  64  2880 201088 131072 32x4x2880,bias,mxfp4,window128 openai/gpt-oss-20b
gpt_oss     36  2880 64  8  64  2880 201088 131072 128x4x2880,bias,mxfp4,window128 openai/gpt-oss-120b
"""

_FLAGS: Mapping[str, Mapping[str, Any]] = {
    "-": {},
    "tied": {"tie_word_embeddings": True},
    "bias": {"attention_bias": True},
    "mxfp4": {"quantization_config": {"quant_method": "mxfp4"}},
}
_VISION = {  # of Gemma 3's three models that read pictures
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "intermediate_size": 4304,
    "patch_size": 14,
    "image_size": 896,
    "vision_use_head": False,
}


def known_config(model: str) -> tuple[str, Mapping[str, Any]] | None:
    """A well-known model's id and config, whatever the capitals and whoever's copy it is: `unsloth/Qwen3-8B` has the shape of Qwen/Qwen3-8B.

    None where the name is not listed.
    """
    exact = {name.lower(): name for name in known_models()}
    by_name = {name.lower().rpartition("/")[2]: name for name in reversed(known_models())}
    found = exact.get(model.lower()) or by_name.get(model.lower().rpartition("/")[2])
    return None if found is None else (found, known_models()[found])


def nearest_models(model: str) -> list[str]:
    """Up to three well-known models whose names are nearly that."""
    names = {name.lower(): name for name in known_models()}
    short = {name.rpartition("/")[2]: full for name, full in names.items()}
    close = difflib.get_close_matches(model.lower(), names, cutoff=0.8)
    close += difflib.get_close_matches(model.lower().rpartition("/")[2], short, cutoff=0.7)
    return list(dict.fromkeys((names | short)[one] for one in close))[:3]


@cache
def known_models() -> dict[str, Mapping[str, Any]]:
    """Hub id -> config.json, of all that are listed."""
    return {name: config for line in _TABLE.strip().splitlines() for name, config in _line(line)}


def _line(line: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    model_type, *words = line.split()
    numbers, flags, names = words[: len(_COLUMNS)], words[len(_COLUMNS)], words[len(_COLUMNS) + 1 :]
    config: dict[str, Any] = {"model_type": model_type, "dtype": "bfloat16", "tie_word_embeddings": False}
    config |= {"sliding_window": None, **dict(zip(_COLUMNS, map(int, numbers), strict=True))}
    for flag in flags.split(","):
        if flag in _FLAGS:
            config |= _FLAGS[flag]
        elif flag.startswith("window"):
            config |= {"use_sliding_window": True, "sliding_window": int(flag.removeprefix("window"))}
        else:
            config |= _experts(model_type, *map(int, flag.split("x")))
    if model_type == "gemma3":
        config = {
            "model_type": "gemma3",
            "text_config": config | {"model_type": "gemma3_text"},
            "vision_config": _VISION,
        }
    for name in names:
        yield from ((one, config) for one in _either(name))


def _experts(model_type: str, count: int, per_token: int, width: int) -> dict[str, int]:
    kind = "num_experts" if model_type == "qwen3_moe" else "num_local_experts"
    return {kind: count, "num_experts_per_tok": per_token, "moe_intermediate_size": width}


def _either(name: str) -> Iterator[str]:
    """`a{b,c}d` as abd and acd."""
    found = re.search(r"\{([^}]*)\}", name)
    if found is None:
        yield name
        return
    for part in found[1].split(","):
        yield from _either(name[: found.start()] + part + name[found.end() :])
