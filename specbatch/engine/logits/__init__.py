"""What a row asks of its logits: options, penalties and bans, grammars, log probabilities."""
