"""From the spec and the plan to loaded models."""
