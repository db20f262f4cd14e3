"""Trains EAGLE-3 heads (Li et al., arXiv 2503.01840) for a target, from prompts and the target's own answers."""
