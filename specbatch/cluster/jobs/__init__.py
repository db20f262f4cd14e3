"""The Jobs of a run: found, submitted, retried, suspended, waited for, deleted."""
