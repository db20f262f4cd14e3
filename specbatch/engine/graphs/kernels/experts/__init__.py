"""Kernels of mixtures of experts: where tokens go, and the products of what they choose."""
