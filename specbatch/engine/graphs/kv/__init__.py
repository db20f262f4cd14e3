"""Pages of KV: what they are, who holds which, what rows share."""
