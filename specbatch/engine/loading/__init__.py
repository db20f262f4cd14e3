"""From weights to a model that can run: dry load, checks of the checkpoint, load, vocabulary."""
