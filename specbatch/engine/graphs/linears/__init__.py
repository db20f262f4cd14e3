"""Linears of a packed decoder on a GPU whose weights and inputs are FP8."""
