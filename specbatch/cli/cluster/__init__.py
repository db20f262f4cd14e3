"""The commands that act on runs of a cluster."""
