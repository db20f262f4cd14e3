"""The general path's Triton kernels: of a round's few tokens, over slots."""
