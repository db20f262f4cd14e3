"""From logits to tokens in recorded rounds: rows' options by slot, log probabilities, and the choice itself."""
