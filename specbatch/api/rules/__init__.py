"""The rules between fields: every module of this package registers its own when it is imported, in this order."""

from specbatch.api.rules import placement, engine, run, prompts, job, pod_template  # isort: skip  # the order of the problems
from specbatch.api.rules.rule import RULES

__all__ = ["RULES", "engine", "job", "placement", "pod_template", "prompts", "run"]
