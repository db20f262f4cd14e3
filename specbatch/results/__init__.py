"""What a run leaves behind: shard files, manifest, report."""
