"""`specbatch doctor`: whether a namespace and its cluster are ready for runs; every check with its remedy."""
