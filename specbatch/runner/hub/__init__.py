"""The model hub: which files of a model a run needs, and their download, checked and resumable."""
