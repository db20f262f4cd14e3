"""Finding the context of the kubeconfig, as kubectl does, with one clear sentence for every mistake.

The kubernetes library reads the files again for the credentials; what it would only log is checked here before.
"""

from __future__ import annotations

import difflib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from specbatch.errors import ClusterError

IN_CLUSTER = "in-cluster"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_NEW_KUBECONFIG = "get one from whoever runs the cluster, and name it in KUBECONFIG or with --kubeconfig"


@dataclass(frozen=True, slots=True)
class ClusterContext:
    """A context of the kubeconfig: the cluster to connect to, and as whom.

    Args:
        name: in the kubeconfig, or in-cluster.
        namespace: of the context, or empty.
        server: URL of the API server; empty in a cluster (the environment has it).
        files: the kubeconfig files; none in a cluster.
        user: the user's entry in the kubeconfig.
        proxy: proxy-url of the kubeconfig, or empty.
    """

    name: str
    namespace: str
    server: str = ""
    files: Sequence[Path] = ()
    user: Mapping[str, Any] = field(default_factory=dict)
    proxy: str = ""

    @property
    def inside(self) -> bool:
        """Whether this is the cluster of our own pod."""
        return not self.files

    @property
    def direct(self) -> bool:
        """Whether proxies of the environment are ignored: for loopback addresses, as kubectl does."""
        host = urlsplit(self.server).hostname or ""
        return not self.proxy and (host in {"localhost", "::1"} or host.startswith("127."))

    @property
    def plugin(self) -> str:
        """The exec plugin that provides the credentials, or empty."""
        return str((self.user.get("exec") or {}).get("command") or "")


def find_context(*, context: str | None = None, kubeconfig: str | None = None) -> ClusterContext:
    """The context of this name (None: the current one); in a pod without kubeconfig, the pod's own cluster.

    Raises:
        ClusterError: there is no kubeconfig, it is broken, or has no such context.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG") or ""
    paths = [Path(path).expanduser() for path in named.split(os.pathsep) if path] or [
        Path("~/.kube/config").expanduser()
    ]
    files = [path for path in paths if path.exists()]
    if kubeconfig and not files:
        raise ClusterError("no such kubeconfig", where=kubeconfig, remedy="check --kubeconfig")
    if files:
        return _chosen(files, _merged(files), context)
    token = SERVICE_ACCOUNT / "token"
    if os.environ.get("KUBERNETES_SERVICE_HOST") and token.exists() and context in {None, IN_CLUSTER}:
        namespace = SERVICE_ACCOUNT / "namespace"
        return ClusterContext(IN_CLUSTER, namespace.read_text().strip() if namespace.exists() else "")
    where = (
        f"KUBECONFIG names {named}, which does not exist"
        if named
        else "there is no ~/.kube/config, and KUBECONFIG is not set"
    )
    raise ClusterError(f"no cluster to talk to: {where}", remedy=_NEW_KUBECONFIG)


@contextmanager
def logged_errors() -> Iterator[list[str]]:
    """Collects what the library only logs while it loads credentials: why an exec plugin failed."""
    logged: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage())

    listener = Listener(logging.ERROR)
    logging.getLogger().addHandler(listener)
    try:
        yield logged
    finally:
        logging.getLogger().removeHandler(listener)


def no_credentials(context: ClusterContext, logged: Sequence[str]) -> ClusterError:
    """The error where a context has no usable credentials."""
    where = f"context {context.name}"
    if context.plugin:
        why = f": {logged[-1]}" if logged else ""
        return ClusterError(
            f"{context.plugin} gives no credentials{why}", where=where, remedy="log in to the cluster again"
        )
    if logged:
        return ClusterError(
            f"its credentials cannot be used: {logged[-1]}", where=where, remedy="fetch the kubeconfig anew"
        )
    remedy = "log in to the cluster again, or name another context"
    return ClusterError("its user has no credentials in the kubeconfig", where=where, remedy=remedy)


def _chosen(files: Sequence[Path], merged: Mapping[str, Any], context: str | None) -> ClusterContext:
    source = os.pathsep.join(str(file) for file in files)
    contexts, name = merged["contexts"], context or merged["current-context"]
    if not name:
        remedy = f"kubectl config use-context NAME, or --context NAME; there are: {_names(contexts)}"
        raise ClusterError("the kubeconfig has no current-context", where=source, remedy=remedy)
    if name not in contexts:
        near = difflib.get_close_matches(name, contexts, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"there are: {_names(contexts)}"
        raise ClusterError(f"no context {name} in the kubeconfig", where=source, remedy=remedy)
    chosen = contexts[name]
    cluster = merged["clusters"].get(chosen.get("cluster"))
    server = str((cluster or {}).get("server") or "")
    if not server.startswith(("http://", "https://")):
        message = f"context {name} names the cluster {chosen.get('cluster') or '(none)'}, which has no server in the kubeconfig"
        raise ClusterError(message, where=source, remedy="fetch the kubeconfig anew")
    user = merged["users"].get(chosen.get("user")) or {}
    proxy = str(cluster.get("proxy-url") or "")
    found = ClusterContext(name, str(chosen.get("namespace") or ""), server.rstrip("/"), tuple(files), user, proxy)
    _check_plugin(found, user.get("exec") or {}, files)
    return found


def _check_plugin(context: ClusterContext, plugin: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Raises where the exec plugin is not installed; the library would only log that and go on without credentials."""
    if not context.plugin:
        return
    relative = os.sep in context.plugin and not Path(context.plugin).is_absolute()
    found = any((file.parent / context.plugin).exists() for file in files) if relative else shutil.which(context.plugin)
    if not found:
        hint = " ".join(str(plugin.get("installHint") or "install it, or name another context").split())
        message = f"the program that logs in, {context.plugin}, is not installed"
        raise ClusterError(message, where=f"context {context.name}", remedy=hint)


def _merged(files: Sequence[Path]) -> Mapping[str, Any]:
    """Several files merged: the first file that has a name wins, as in kubectl."""
    merged: dict[str, Any] = {"contexts": {}, "clusters": {}, "users": {}, "current-context": ""}
    for file in files:
        content = _content(file)
        merged["current-context"] = merged["current-context"] or str(content.get("current-context") or "")
        for section, entry in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            items = content.get(section) or []
            if not isinstance(items, list):
                items = [None]
            for item in items:
                if not isinstance(item, dict) or not isinstance(item.get(entry) or {}, dict):
                    raise ClusterError(
                        f"not a kubeconfig: {section} is malformed", where=str(file), remedy=_NEW_KUBECONFIG
                    )
                merged[section].setdefault(item.get("name"), item.get(entry) or {})
    return merged


def _content(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_bytes())
    except OSError as error:
        message = f"the kubeconfig cannot be read: {error.strerror}"
        raise ClusterError(message, where=str(file), remedy="check its owner and permissions") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"the kubeconfig is not YAML: {reason}", where=str(file), remedy="fetch it anew") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ClusterError("not a kubeconfig", where=str(file), remedy=_NEW_KUBECONFIG)
    return content


def _names(contexts: Mapping[str, Any]) -> str:
    return ", ".join(sorted(str(name) for name in contexts)) or "none"
