"""A look at a dataset before a run: its format, columns, and first rows as the model will see them. No weights, no GPU."""
