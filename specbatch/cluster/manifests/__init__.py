"""A spec as a ConfigMap and an Indexed Job: pure functions."""
