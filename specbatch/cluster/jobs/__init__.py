"""The Jobs of a run: find, start, retry, suspend, wait for, delete."""
