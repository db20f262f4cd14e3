"""The Kubernetes API: one connection, retried calls, watches. `library` alone imports kubernetes."""
