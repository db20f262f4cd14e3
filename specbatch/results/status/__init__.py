"""The status of a run, from its small files."""
