"""The Kubernetes API: one connection, retries, watches. Only `library` imports kubernetes."""
