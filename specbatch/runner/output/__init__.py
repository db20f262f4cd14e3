"""What a run writes: rows in their forms, the thread that appends them, manifests, uploads."""
