"""Closed files copied to object storage while the run goes on, and restored from it."""
