"""The model runner of the fast path: decoders that a description says over paged KV, whole rounds as replayed CUDA graphs."""
