"""Result files brought from the volume of a run on a cluster."""
