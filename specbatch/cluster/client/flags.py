"""The cluster options that the user gave, for the commands that are proposed next: one that is pasted asks the same cluster."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flags:
    """--context, --namespace and --kubeconfig as given; None for one that was not."""

    context: str | None = None
    namespace: str | None = None
    kubeconfig: str | None = None

    def command(self, verb: str, *words: str) -> str:
        """`specbatch status nightly -n ml`, of `status` and `nightly`."""
        return shlex.join(["specbatch", *verb.split(), *words, *self._words])

    def kubectl(self, *words: str) -> str:
        """`kubectl -n ml describe job nightly`; of no words what a command begins with."""
        return shlex.join(["kubectl", *self._words, *words])

    @property
    def _words(self) -> list[str]:
        given = (("-n", self.namespace), ("--context", self.context), ("--kubeconfig", self.kubeconfig))
        return [word for option, value in given if value is not None for word in (option, value)]
