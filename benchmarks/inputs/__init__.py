"""What benchmarks run on: models with random weights whose right answers are known, prompts, schemas, tensors."""
