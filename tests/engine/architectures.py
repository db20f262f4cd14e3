"""Tiny models of transformers' causal LM types, made from their configs: a new type is one line, or none if the common sizes fit it."""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCAB = 64
WINDOW = 7  # tokens that sliding and chunked layers see

# Of these, a config takes what it knows.
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,  # tied, random models repeat the last token
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "is_decoder": True,
    "sliding_window": WINDOW,
    "use_sliding_window": True,
    "max_window_layers": 1,
    "attention_chunk_size": WINDOW,
    # mixtures of experts
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "moe_topk": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    # latent attention
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    # linear attention and state spaces
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "mamba_d_state": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
    # decoders of encoder-decoders
    "d_model": 32,
    "embedding_size": 32,
    "ffn_hidden_size": 48,
    "decoder_layers": 2,
    "decoder_ffn_dim": 48,
    "decoder_attention_heads": 4,
    "encoder_layers": 1,
    "encoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
}
_LATENT = {"num_key_value_heads": 4, "head_dim": 8}
SPECIAL = {
    "axk1": _LATENT,
    "axk2": _LATENT,
    "codegen": {"rotary_dim": 4},
    "cwm": {"bos_token_id": 0, "eos_token_id": 0},
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "deepseek_v32": _LATENT,
    "glm4_moe_lite": _LATENT,
    "glm_moe_dsa": _LATENT,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
    "gptj": {"rotary_dim": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1},
    "minicpm3": _LATENT,
    "modernbert-decoder": {"pad_token_id": 0},
    "youtu": _LATENT,
    "zaya": {"num_experts_per_tok": 1},
}


def build(kind, seed=0, **changes):
    """A random model in float32 of two layers, whose greedy continuations wander instead of repeating."""
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config(kind, **changes)).float().eval()
    if getattr(made.config.get_text_config(), "attn_logit_softcapping", None):
        made.set_attn_implementation("eager")  # transformers' others leave the cap out
    return made


def config(kind, **changes):
    """The config of `build`."""
    made = CONFIG_MAPPING[kind]
    known = {name for base in made.__mro__ for name in getattr(base, "__annotations__", {})} | set(made.attribute_map)
    sizes = {name: value for name, value in SIZES.items() if name in known}
    return made(**sizes | SPECIAL.get(kind, {}) | changes)


ALL = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

# Decode exactly.
EXACT = """
    afmoe arcee aria_text axk1 bert bert-generation biogpt bitnet cohere cohere2 cohere2_moe ctrl cwm deepseek_v2 deepseek_v3 diffllama dots1
    electra ernie ernie4_5 ernie4_5_moe exaone4 exaone_moe flex_olmo fuyu gemma gemma2 gemma3_text gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite
    gpt-sw3 gpt2 gpt_bigcode gpt_neox granite granitemoe granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe hy_v3 hyperclovax jais2
    jetmoe laguna llama llama4_text mellum minicpm3 minimax_m2 minimax_m3_vl_text ministral ministral3 mistral mixtral nanochat nemotron olmo
    olmo2 olmo3 olmoe opt persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_moe seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma youtu
""".split()  # noqa: SIM905  # eighty lines otherwise

_OUTSIDE = "attention that does not go through transformers' attention interface"
_NO_POSITIONS = "a forward without position_ids"
_ALIBI = "alibi"
_SINKS = "attention sinks"
_STATE = "a recurrent state"

# Are refused, with the beginning of the cause.
REFUSED = {
    "axk2": "deepseek sparse attention in layers 0, 1",
    "bamba": "Mamba in layers 0, 1",
    "bart": _NO_POSITIONS,
    "big_bird": _OUTSIDE,
    "bloom": _ALIBI,
    "codegen": _OUTSIDE,
    "deepseek_v32": "deepseek sparse attention in layers 0, 1",
    "deepseek_v4": "heavily compressed attention in layers 0, 1",
    "doge": "an attention mask of its own making",
    "falcon": _OUTSIDE,
    "falcon_mamba": "Mamba in layers 0, 1",
    "glm_moe_dsa": "deepseek sparse attention in layers 0, 1",
    "gpt_neo": _OUTSIDE,
    "gpt_neox_japanese": _OUTSIDE,
    "gpt_oss": _SINKS,
    "gptj": _OUTSIDE,
    "granite_swa": _SINKS,
    "granitemoehybrid": "Mamba in layers 0, 1",
    "inkling_text": "linear attention beside attention in layers 0, 1",
    "jamba": "Mamba in layers 0, 1",
    "lfm2": "convolutions in layer 0",
    "lfm2_moe": "convolutions in layer 0",
    "mamba": "Mamba in layers 0, 1",
    "mamba2": "Mamba in layers 0, 1",
    "mimo_v2_flash": _SINKS,
    "minimax": "linear attention in layer 1",
    "mpt": _ALIBI,
    "nemotron_h": "Mamba in layer 0",
    "olmo_hybrid": "linear attention in layer 0",
    "openai-gpt": _OUTSIDE,
    "pegasus": _NO_POSITIONS,
    "qwen3_5_text": "linear attention in layers 0, 1",
    "qwen3_5_moe_text": "linear attention in layers 0, 1",
    "qwen3_next": "linear attention in layers 0, 1",
    "qwen4_exp_text": "linear attention in layers 0, 1",
    "recurrent_gemma": "a recurrence in layers 0, 1",
    "roformer": _OUTSIDE,
    "rwkv": _STATE,
    "xglm": _OUTSIDE,
    "xlstm": _STATE,
    "zaya": "linear attention beside attention in layers 0, 1",
}
