"""Logs and events of a run."""
