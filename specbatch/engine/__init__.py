"""Token ids in, token ids out: batched speculative decoding on transformers causal LMs."""
