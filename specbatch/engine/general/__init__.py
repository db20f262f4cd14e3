"""The model runner for every architecture: transformers modules over a slot of KV for each sequence, rounds as in the papers."""
