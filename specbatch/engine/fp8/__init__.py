"""Checkpoints in FP8: read as they are stored, multiplied as they are meant to be."""
