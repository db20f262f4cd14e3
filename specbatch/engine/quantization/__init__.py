"""Linears with weights of fewer bits: how they are kept, how a matrix is rounded to them, and how a model's linears are replaced."""
