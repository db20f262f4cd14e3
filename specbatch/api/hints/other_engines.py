"""What the fields and flags of other engines (vLLM, transformers, SGLang, TGI, TensorRT-LLM, llama.cpp, Ollama) are here, or what to do instead."""

from __future__ import annotations

from specbatch.api.hints.nearest import plain

_NO_SETTING = "there is no such setting: the engine chooses, and the run says what it chose"
_ADAPTER = "an adapter is target.adapter: FOLDER, with engine: {name: vllm}; or merge it first: AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload().save_pretrained(MERGED), and name MERGED as target.model"
_QUANTISED = "a target's weights are not quantised here: name a quantised model or a .gguf file as target.model, or the unquantised one with dtype bfloat16; a drafter's are: drafter.quantization"
_NO_SERVER = "a run reads a dataset and serves nobody: leave it out"
_PENALTY = "there is none of this kind: leave it out, or use decoding's repetitionPenalty, frequencyPenalty, presencePenalty, minP"
_BEAMS = "there is no beam search: temperature 0 is greedy, above 0 samples"
_MANY = "completions are not ranked: decoding.n gives several of a row"
_NO_OFFLOAD = "nothing is offloaded: the pair must fit the GPUs, and specbatch plan FILE shows what fits"
_HUB_LOGIN = "a secret is never in a spec: set HF_TOKEN in the environment; in pods, job.secretEnv: {HF_TOKEN: {name: hf, key: token}}"
_SHAPE = "tools are of a row, beside its messages: see docs/reference/row-options.md"
_DRAFTER = "the drafter is a section: drafter: {model: Qwen/Qwen3-1.7B}, or drafter: {method: ngram}; k is decoding.numSpeculativeTokens"
_HEADS = (
    "drafters are a model of the same vocabulary (drafter: {model: ...}), an EAGLE-3 head (drafter: {method: eagle3, model: ...})"
    " or the row's own text (drafter: {method: ngram})"
)

_MTP = f"a model's own layer for drafting is drafter: {{method: mtp}} (MiMo-7B's; others are not loaded); {_HEADS}"

# What to do, by the names that mean it; a text that begins with = names the field that it is here.
_TABLE: dict[str, str] = {
    # GPUs
    "tensor_parallel_size tp tp_size tensor_parallel num_shard sharded": "there is no tensor parallelism: with placement.gpus: N, copies of the pair "
    "share the rows (placement.replicas); a pair too large for one GPU has its layers spread (placement.strategy: multi_gpu_ratio), or by vLLM its tensors (engine.name: vllm)",
    "pipeline_parallel_size pp pp_size pipeline_parallel": "layers are spread over GPUs by placement: {gpus: 8, strategy: multi_gpu_ratio, ratio: {target: 6, drafter: 2}}",
    "expert_parallel_size ep_size enable_expert_parallel": "experts are not spread by themselves: layers are, by placement.strategy: multi_gpu_ratio",
    "data_parallel_size dp dp_size num_replicas": "copies of the pair in one pod are placement.replicas, pods are job.completions",
    "num_gpus n_gpus gpu_count n_gpu world_size nproc_per_node gpu": "=placement.gpus",
    "device devices device_map gpu_ids cuda_visible_devices main_gpu tensor_split n_gpu_layers": "how many GPUs is placement.gpus (0 is the CPU), what goes where placement.strategy; "
    "which ones, the environment's CUDA_VISIBLE_DEVICES, or TARGET_GPU and DRAFTER_GPU",
    "num_nodes nnodes num_pods pods num_workers": "=job.completions",
    "distributed_executor_backend": _NO_SETTING,
    # memory and batches
    "max_model_len max_seq_len max_sequence_length context_length n_ctx num_ctx max_total_tokens max_context_length": "=batching.maxLength",
    "max_input_length max_input_tokens max_prompt_length truncation": "prompts are never cut: batching.maxLength counts prompt and new tokens together, and a longer row goes to the errors file",
    "max_num_seqs batch_size max_batch_size max_running_requests max_concurrent_requests max_concurrency "
    "per_device_eval_batch_size micro_batch_size num_parallel n_parallel": "=batching.maxSequences",
    "gpu_memory_utilization mem_fraction_static max_memory kv_cache_free_gpu_memory_fraction cuda_memory_fraction": "batching.maxSequences: auto fills the memory that is free; a number leaves some",
    "max_num_batched_tokens max_prefill_tokens max_batch_prefill_tokens chunked_prefill_size enable_chunked_prefill enable_prefix_caching disable_radix_cache block_size page_size "
    "enforce_eager disable_cuda_graph cuda_graph_max_bs compilation_config torch_compile enable_torch_compile attn_implementation attention_backend flash_attention flash_attn "
    "use_flash_attention_2 scheduling_policy schedule_policy num_scheduler_steps max_waiting_tokens": _NO_SETTING,
    "kv_cache_dtype cache_dtype cache_type_k cache_type_v": "=target.kvDtype",
    "swap_space cpu_offload_gb offload_folder low_cpu_mem_usage kv_offloading_size": _NO_OFFLOAD,
    # models
    "model_name model_id model_path model_name_or_path pretrained_model_name_or_path base_model hf_model_id": "=target.model",
    "tokenizer tokenizer_path tokenizer_mode tokenizer_name tokenizer_revision": "the tokenizer is that of the target's own folder: leave it out",
    "torch_dtype precision fp16 bf16 half": "dtype is set for each model: target.dtype and drafter.dtype",
    "quantization_config quantize load_in_4bit load_in_8bit load_format bits gptq awq": _QUANTISED,
    "lora loras enable_lora lora_path lora_paths lora_modules lora_adapters lora_request adapters adapter_id peft peft_model max_lora_rank": _ADAPTER,
    "hf_token token hf_hub_token use_auth_token api_key huggingface_token": _HUB_LOGIN,
    "cache_dir download_dir hf_home": "the hub's cache is the environment's HF_HOME; in pods, job.volumes.modelCache",
    "offline local_files_only hf_hub_offline": 'set HF_HUB_OFFLINE=1 in the environment; in pods, job.env: {HF_HUB_OFFLINE: "1"}',
    # speculation
    "speculative_config speculative speculation speculative_decoding": _DRAFTER,
    "draft_model drafter_model speculative_model assistant_model speculative_draft_model_path draft_model_path spec_decode_model": "=drafter.model",
    "num_assistant_tokens num_draft_tokens speculative_num_draft_tokens speculative_num_steps draft_len gamma k draft_max": "=decoding.numSpeculativeTokens",
    "prompt_lookup prompt_lookup_num_tokens ngram ngram_size": "look drafts up in the row's own text by drafter: {method: ngram, promptLookupMax: 4}",
    "speculative_algorithm speculative_method eagle eagle3 medusa draft_tensor_parallel_size speculative_eagle_topk": _HEADS,
    "mtp deepseek_mtp glm4_moe_mtp mimo_mtp qwen3_next_mtp ernie_mtp nextn num_nextn_predict_layers": _MTP,
    # tokens
    "max_tokens max_completion_tokens max_output_tokens num_predict n_predict max_gen_len generation_length": "=decoding.maxNewTokens",
    "stop_sequences stop_strings stop_words": "=decoding.stop",
    "eos_token_id": "the model's own ends are known; further ones are decoding.stopTokenIds",
    "do_sample": "temperature 0 is greedy, above 0 samples: decoding.temperature",
    "num_beams beam_width use_beam_search num_beam_groups length_penalty early_stopping": _BEAMS,
    "best_of": _MANY,
    "num_return_sequences num_samples": "=decoding.n",
    "repeat_penalty": "=decoding.repetitionPenalty",
    "bad_words_ids": "=decoding.badWords",
    "min_new_tokens": "=decoding.minTokens",
    "min_length": "decoding.minTokens counts the new tokens alone",
    "typical_p top_a tfs_z mirostat logits_processors guidance_scale penalty_alpha": _PENALTY,
    "logprobs": "=decoding.topLogprobs",
    "return_full_text": "=decoding.echo",
    "guided_json guided_regex guided_choice guided_grammar guided_decoding structured_outputs response_format": "=decoding.structuredOutput",
    "tools tool_choice": _SHAPE,
    "sampling_params sampling generation_config generation generate_kwargs": "the fields of sampling are those of the section decoding: maxNewTokens, temperature, topP, topK, seed, stop; fromModel: true takes the target's own",
    # data
    "prompts prompt prompts_file input input_file input_path inputs data data_path dataset_path dataset_name data_files": "=dataset.uri",
    "system system_message": "=dataset.systemPrompt",
    "output output_dir output_file output_path outputs save_dir out_dir": "=results.dir",
    "max_samples num_examples num_prompts max_rows": "=dataset.limit",
    # a server's
    "host port served_model_name api_server max_retries request_timeout": _NO_SERVER,
    "log_level verbose": "`specbatch run --log-format json` says everything, and `--quiet` nothing but errors",
    "docker_image container_image": "=job.image",
    "gpu_type accelerator gpu_product": "=job.nodeSelector",
}  # fmt: skip


NAMES = {plain(name): text for names, text in _TABLE.items() for name in names.split()}


def meant_field(name: str) -> str | None:
    """The field, without the leading spec., that a name of another engine is here; None where it is none."""
    text = NAMES.get(plain(name), "")
    return text[1:] if text.startswith("=") else None


def instead_of(name: str) -> str | None:
    """What to do in place of a field or flag of another engine; None where the name is not known."""
    text = NAMES.get(plain(name))
    return f"here it is {text[1:]}" if text and text.startswith("=") else text
