"""What each rule knows of Kubernetes, a module for each part of it.

A rule takes the evidence and a pod, one that exists or one that would, and yields what it finds, the most certain first.
"""
