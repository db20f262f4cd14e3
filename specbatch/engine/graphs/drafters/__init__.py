"""What proposes tokens inside captured rounds: a packed model, an EAGLE-3 head, lookup."""
