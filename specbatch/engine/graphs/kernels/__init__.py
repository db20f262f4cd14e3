"""Triton kernels: each file has plain functions with the signatures of reference.TorchOps."""
