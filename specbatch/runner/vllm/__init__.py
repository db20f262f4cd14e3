"""vLLM as the engine of a run. Nothing outside of this folder knows more of it than its name."""
