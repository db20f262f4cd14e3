"""The Kubernetes API as specbatch needs it: objects are plain dicts, failures are ClusterErrors, calls are tried again.

Parts: client_config (which cluster), client_library (`kubernetes` itself), client_connection (requests), client_retry,
client_errors, client_lists, client_watch, client_exec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal
from urllib.parse import urlencode

from specbatch.cluster.client import exec as client_exec
from specbatch.cluster.client import library as client_library
from specbatch.cluster.client.config import ClusterContext, find_context
from specbatch.cluster.client.connection import Connection, log_lines
from specbatch.cluster.client.errors import Call
from specbatch.cluster.client.kinds import PODS, Kind, Object
from specbatch.cluster.client.lists import Objects, selectors
from specbatch.cluster.client.retry_policy import RetryPolicy
from specbatch.cluster.client.watch import Event, Watch
from specbatch.errors import ClusterError

Propagation = Literal["Background", "Foreground", "Orphan"]

_MANAGER = ("fieldManager", "specbatch")
_STRICT = ("fieldValidation", "Strict")
_LOG_IDLE_SECONDS = 90.0
_REVIEWS = Kind("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False)


class Cluster:
    """A cluster, and the namespace that is meant where none is named. Threads may share it.

    Args:
        context: of the kubeconfig.
        connection: to its API server.
        namespace: the one that is meant.
    """

    def __init__(self, context: ClusterContext, connection: Connection, namespace: str) -> None:
        self.namespace = namespace
        self.context = context.name
        self.server = connection.server
        self._context = context
        self._connection = connection

    @classmethod
    def connect(
        cls,
        *,
        context: str | None = None,
        namespace: str | None = None,
        kubeconfig: str | None = None,
        policy: RetryPolicy | None = None,
    ) -> Cluster:
        """The cluster that a context of the kubeconfig means; in a pod without kubeconfig, the pod's own.

        Nothing is asked of it yet, but login programs are run.

        Args:
            context: the current one, where None.
            namespace: the context's, else `default`, where None.
            kubeconfig: $KUBECONFIG, else ~/.kube/config, where None.
            policy: how long to try again.

        Raises:
            ClusterError: there is no such context, or no credentials for it.
        """
        found = find_context(context=context, kubeconfig=kubeconfig)
        connection = Connection(lambda: client_library.load(found), client_library.failures(), policy or RetryPolicy())
        return cls(found, connection, namespace or found.namespace or "default")

    def in_namespace(self, namespace: str | None) -> Cluster:
        """The same connection with another namespace; itself for None."""
        return self if namespace is None else Cluster(self._context, self._connection, namespace)

    def get(self, kind: Kind, name: str) -> Object:
        """One object.

        Raises:
            ClusterError: with status 404 where it is not.
        """
        return self._connection.json(self._call("get", kind, name), "GET", self._path(kind, name))

    def find(self, kind: Kind, name: str) -> Object | None:
        """One object; None where it is not, or the cluster does not know its kind."""
        try:
            return self.get(kind, name)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self,
        kind: Kind,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        all_namespaces: bool = False,
    ) -> list[Object]:
        """Objects with these labels and fields; of every namespace if `all_namespaces`."""
        return self._objects("list", kind, labels, fields, all_namespaces=all_namespaces).list()[0]

    def create(self, kind: Kind, body: Object, *, dry_run: bool = False) -> Object:
        """A new object, as the API server completed it.

        Tried again when the answer is lost, so that AlreadyExists may speak of one's own. Unknown fields are refused.
        """
        name = body["metadata"].get("name", "")
        call, query = self._call("create", kind, name), _writing(dry_run)
        return self._connection.json(
            call, "POST", self._path(kind), query=query, body=body, repeatable=bool(name) or dry_run
        )

    def replace(self, kind: Kind, body: Object, *, dry_run: bool = False) -> Object:
        """A whole object in place of the one of its name; with a resourceVersion in it, only of that version."""
        name = body["metadata"]["name"]
        call, query = self._call("update", kind, name), _writing(dry_run)
        return self._connection.json(call, "PUT", self._path(kind, name), query=query, body=body)

    def patch(self, kind: Kind, name: str, body: Object, *, dry_run: bool = False) -> Object:
        """Fields of an object; None takes one away (JSON merge patch)."""
        call, query = self._call("patch", kind, name), _writing(dry_run)
        content_type = "application/merge-patch+json"
        return self._connection.json(
            call, "PATCH", self._path(kind, name), query=query, body=body, content_type=content_type
        )

    def delete(self, kind: Kind, name: str, *, propagation: Propagation = "Background", uid: str | None = None) -> None:
        """Deletes an object (of this uid), and what it owns as `propagation` says. One that is not there is fine."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            self._connection.json(self._call("delete", kind, name), "DELETE", self._path(kind, name), body=body)
        except ClusterError as error:
            if error.status != 404:
                raise

    def on_outage(self, tell: Callable[[float | None], None]) -> None:
        """Whom watches tell of an outage of the server, as `RetryPolicy.outage`."""
        self._connection.policy = replace(self._connection.policy, outage=tell)

    def watch(
        self,
        kind: Kind,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Iterator[Event]:
        """What there is, each as ADDED, then every change; for `seconds`, or for ever.

        Nothing is lost or told twice over lost connections. An outage of ten minutes is told as its error.
        """
        return Watch(self._objects("watch", kind, labels, fields), seconds, self._connection.policy).events()

    def log(
        self,
        pod: str,
        *,
        container: str = "runner",
        follow: bool = False,
        tail: int | None = None,
        since: str | None = None,
        timestamps: bool = False,
        limit_bytes: int | None = None,
        previous: bool = False,
        whole_lines: bool = False,
        idle_seconds: float = _LOG_IDLE_SECONDS,
    ) -> Iterator[str]:
        """Lines of a container's log; asked for at once, read as they are taken.

        One that is followed ends with its connection too (or `idle_seconds` of silence): ask again with `since`.
        With `whole_lines` a last line without its end is left out: more of it may follow.
        """
        asked = {"tailLines": tail, "sinceTime": since, "limitBytes": limit_bytes}
        flags = {"follow": follow, "timestamps": timestamps, "previous": previous}
        query = [("container", container)]
        query += [(name, str(value)) for name, value in asked.items() if value is not None]
        query += [(name, "true") for name, wanted in flags.items() if wanted]
        path = f"{self._path(PODS, pod)}/log"
        call = self._call("get", PODS, pod, "log")
        chunks = self._connection.chunks(call, path, query, idle_seconds=idle_seconds)
        return log_lines(chunks, follow=follow, whole=whole_lines)

    def exec(self, pod: str, command: Sequence[str], *, container: str) -> Iterator[bytes]:
        """Standard output of a command in a container, in chunks; started at once.

        Raises:
            ClusterError: it failed (with the end of its stderr), or the connection was lost.
        """
        self.get(PODS, pod)  # with the errors and timeouts of an ordinary call
        call = self._call("create", PODS, pod, "exec")
        query = [
            ("container", container),
            ("stdout", "true"),
            ("stderr", "true"),
            *(("command", word) for word in command),
        ]
        path = f"{self._path(PODS, pod)}/exec?{urlencode(query)}"
        socket = self._connection.retried(
            lambda: client_library.websocket(self._connection, call, path), repeatable=False
        )
        return client_exec.output(socket, pod, command, *client_library.websocket_failures())

    def can(self, verb: str, kind: Kind, *, subresource: str = "", all_namespaces: bool = False) -> bool | None:
        """Whether we are permitted to; None where that cannot be asked."""
        namespace = "" if all_namespaces or not kind.namespaced else self.namespace
        attributes = {
            "verb": verb,
            "group": kind.group,
            "resource": kind.plural,
            "subresource": subresource,
            "namespace": namespace,
        }
        body: Object = {
            "apiVersion": _REVIEWS.api_version,
            "kind": _REVIEWS.name,
            "spec": {"resourceAttributes": attributes},
        }
        try:
            answer = self._connection.json(self._call("create", _REVIEWS), "POST", self._path(_REVIEWS), body=body)
        except ClusterError as error:
            if error.status in {403, 404, 405}:
                return None
            raise
        return bool(answer["status"]["allowed"])

    def version(self) -> str:
        """The API server's, such as v1.36.4."""
        return str(self._connection.json(self._call("get"), "GET", "/version").get("gitVersion") or "")

    def _call(
        self,
        verb: str,
        kind: Kind | None = None,
        name: str = "",
        subresource: str = "",
        *,
        all_namespaces: bool = False,
    ) -> Call:
        namespace = self.namespace if kind and kind.namespaced and not all_namespaces else ""
        return Call(verb, kind, name, namespace, subresource, self.server, self.context)

    def _path(self, kind: Kind, name: str = "") -> str:
        return kind.path(self.namespace, name)

    def _objects(
        self,
        verb: str,
        kind: Kind,
        labels: Mapping[str, str] | None,
        fields: Mapping[str, str] | None,
        *,
        all_namespaces: bool = False,
    ) -> Objects:
        call, path = (
            self._call(verb, kind, all_namespaces=all_namespaces),
            kind.path(None if all_namespaces else self.namespace),
        )
        return Objects(self._connection, kind, call, path, selectors(labels, fields))


def _writing(dry_run: bool) -> list[tuple[str, str]]:
    return [_MANAGER, _STRICT, *([("dryRun", "All")] if dry_run else [])]
