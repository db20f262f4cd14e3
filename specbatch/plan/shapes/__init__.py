"""Sizes of models, read from configs, weights and names, without torch."""
