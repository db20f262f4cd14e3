"""Checkpoints of packed integers (AWQ, GPTQ, compressed-tensors): each linear repacked once, when it is loaded."""
