"""The files of one shard, written while it runs."""
