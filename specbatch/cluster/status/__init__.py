"""How a run on a cluster stands, from its Jobs, pods and the progress that the pods log."""
