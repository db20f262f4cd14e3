"""Speculative decoding: what rounds cost and gain, how many tokens they draft, and which drafts stand."""
