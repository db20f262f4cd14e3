"""The model runner of the fast path: Qwen3- and Llama-shaped decoders over paged KV, whole rounds as replayed CUDA graphs."""
