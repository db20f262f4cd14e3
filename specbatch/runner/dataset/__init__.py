"""From a dataset URI to lines: sources, formats by content, compressions, bounded memory."""
