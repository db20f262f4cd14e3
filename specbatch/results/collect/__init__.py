"""A run brought together: checked, joined, in input order, in the wanted format."""
