"""Kubernetes: a spec as a Job, and what becomes of it there. `client` alone calls the API."""
