"""Benchmarks: each one command, printing one table. Speed is measured here and nowhere else."""
