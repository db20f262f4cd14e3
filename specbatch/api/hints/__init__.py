"""Names that a person may have meant: near misses, and what other engines call our fields."""
