"""The status of a run on the cluster, from its Jobs, pods and their logs."""
