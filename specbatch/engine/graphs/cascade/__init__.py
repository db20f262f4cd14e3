"""Attention that reads a beginning that rows share once for all of them."""
