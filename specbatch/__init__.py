"""specbatch: batch inference by speculative decoding, as a local run or a Kubernetes Job.

The way of the data is the order of the folders: api -> plan -> (cluster) -> runner -> engine -> results.
"""

__version__ = "0.1.0"
