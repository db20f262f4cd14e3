"""The Kubernetes API as specbatch needs it: objects are plain dicts, failures are ClusterErrors, transient failures are retried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlencode

from specbatch.cluster.client import exec as client_exec
from specbatch.cluster.client import library as client_library
from specbatch.cluster.client.config import ClusterContext, find_context
from specbatch.cluster.client.connection import Connection, log_lines
from specbatch.cluster.client.errors import Call
from specbatch.cluster.client.flags import Flags
from specbatch.cluster.client.kinds import PODS, Kind, Object
from specbatch.cluster.client.retry_policy import RetryPolicy
from specbatch.cluster.client.watch import Event, Objects, Watch, selectors
from specbatch.errors import ClusterError

_MANAGER = ("fieldManager", "specbatch")
_STRICT = ("fieldValidation", "Strict")
_LOG_IDLE_SECONDS = 90.0
_RUNNER = "runner"  # manifests.names.CONTAINER
_REVIEWS = Kind("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False)


class Cluster:
    """A cluster and a namespace of it. Threads may share it.

    Args:
        context: of the kubeconfig.
        connection: to the API server.
        namespace: of all calls for namespaced kinds.
        flags: the options that lead here, for commands that are proposed.
    """

    def __init__(self, context: ClusterContext, connection: Connection, namespace: str, flags: Flags) -> None:
        self.namespace = namespace
        self.flags = flags
        self.context = context.name
        self.server = connection.server
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
        """The cluster of a context of the kubeconfig; in a pod without kubeconfig, the pod's own.

        Runs login programs (exec plugins), but sends no request yet.

        Args:
            context: None for the current one.
            namespace: None for the context's, else `default`.
            kubeconfig: None for $KUBECONFIG, else ~/.kube/config.
            policy: of retries.

        Raises:
            ClusterError: there is no such context, or no credentials for it.
        """
        found = find_context(context=context, kubeconfig=kubeconfig)
        connection = Connection(lambda: client_library.load(found), client_library.failures(), policy or RetryPolicy())
        flags = Flags(context, namespace, kubeconfig)
        return cls(found, connection, namespace or found.namespace or "default", flags)

    def get(self, kind: Kind, name: str) -> Object:
        """One object.

        Raises:
            ClusterError: with status 404 where it does not exist.
        """
        return self._connection.json(self._call("get", kind, name), "GET", self._path(kind, name))

    def find(self, kind: Kind, name: str) -> Object | None:
        """One object; None where it does not exist, or the cluster does not know its kind."""
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
        """Creates an object; returns it with the API server's defaults. Unknown fields are refused.

        It is retried when the answer is lost, so AlreadyExists may be about an object of one's own.
        """
        name = body["metadata"].get("name", "")
        call, query = self._call("create", kind, name), _writing(dry_run=dry_run)
        return self._connection.json(
            call, "POST", self._path(kind), query=query, body=body, repeatable=bool(name) or dry_run
        )

    def patch(self, kind: Kind, name: str, body: Object) -> Object:
        """Changes fields of an object; None removes one (JSON merge patch)."""
        call, content_type = self._call("patch", kind, name), "application/merge-patch+json"
        path, query = self._path(kind, name), _writing(dry_run=False)
        return self._connection.json(call, "PATCH", path, query=query, body=body, content_type=content_type)

    def delete(self, kind: Kind, name: str, *, uid: str | None = None) -> None:
        """Deletes an object; the garbage collector deletes what it owns. It may be gone; with a `uid`, another of its name stays."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            self._connection.json(self._call("delete", kind, name), "DELETE", self._path(kind, name), body=body)
        except ClusterError as error:
            if error.status != 404 and not (uid is not None and error.status == 409):
                raise

    def on_outage(self, tell: Callable[[float | None], None]) -> None:
        """Sets `RetryPolicy.outage`, which watches call during an outage of the API server."""
        self._connection.policy = replace(self._connection.policy, outage=tell)

    def watch(
        self,
        kind: Kind,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Iterator[Event]:
        """The objects that exist, each as ADDED, then every change; for `seconds`, or for ever.

        No change is missed or reported twice over lost connections.

        Raises:
            ClusterError: the API server was unreachable for ten minutes, or refuses.
        """
        return Watch(self._objects("watch", kind, labels, fields), seconds).events()

    def log(
        self,
        pod: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: str | None = None,
        timestamps: bool = False,
        limit_bytes: int | None = None,
        whole_lines: bool = False,
        idle_seconds: float = _LOG_IDLE_SECONDS,
    ) -> Iterator[str]:
        """Lines of the log of a pod's runner container. The request is sent at once, and its answer read as lines are consumed.

        With `follow` it ends when its connection does, or after `idle_seconds` of silence: call again with `since`.
        With `whole_lines` a last line without a newline is left out: more of it may follow.
        """
        given = {"tailLines": tail, "sinceTime": since, "limitBytes": limit_bytes}
        flags = {"follow": follow, "timestamps": timestamps}
        query = [("container", _RUNNER)]
        query += [(name, str(value)) for name, value in given.items() if value is not None]
        query += [(name, "true") for name, wanted in flags.items() if wanted]
        path = f"{self._path(PODS, pod)}/log"
        call = self._call("get", PODS, pod, "log")
        chunks = self._connection.chunks(call, path, query, idle_seconds=idle_seconds)
        return log_lines(chunks, follow=follow, whole=whole_lines)

    def exec(self, pod: str, command: Sequence[str], *, container: str) -> Iterator[bytes]:
        """Standard output of a command in a container, in chunks. The command starts at once.

        Raises:
            ClusterError: it failed (with the end of its stderr), or the connection was lost.
        """
        self.get(PODS, pod)  # with the errors and timeouts of an ordinary call
        call = self._call("create", PODS, pod, "exec")
        query = {"container": container, "stdout": "true", "stderr": "true", "command": list(command)}
        path = f"{self._path(PODS, pod)}/exec?{urlencode(query, doseq=True)}"
        socket = self._connection.retried(
            lambda: client_library.websocket(self._connection, call, path), repeatable=False
        )
        return client_exec.output(socket, pod, command)

    def can(self, verb: str, kind: Kind, *, subresource: str = "", all_namespaces: bool = False) -> bool | None:
        """Whether the user may do something; None where SelfSubjectAccessReviews may not be created."""
        namespace = "" if all_namespaces or not kind.namespaced else self.namespace
        attributes = {
            "verb": verb,
            "group": kind.group,
            "resource": kind.plural,
            "subresource": subresource,
            "namespace": namespace,
        }
        spec = {"resourceAttributes": attributes}
        body: Object = {"apiVersion": _REVIEWS.api_version, "kind": _REVIEWS.name, "spec": spec}
        try:
            answer = self._connection.json(self._call("create", _REVIEWS), "POST", self._path(_REVIEWS), body=body)
        except ClusterError as error:
            if error.status in {403, 404, 405}:
                return None
            raise
        return bool(answer["status"]["allowed"])

    def kubectl(self, *words: str) -> str:
        """A command for people to paste, on this cluster and namespace: `kubectl -n ml --context prod delete pod x`."""
        return replace(self.flags, namespace=self.namespace).kubectl(*words)

    def version(self) -> str:
        """Version of the API server, such as v1.36.4."""
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
        return Call(verb, kind, name, namespace, subresource, self.server, self.context, self.flags)

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
        call = self._call(verb, kind, all_namespaces=all_namespaces)
        path = kind.path(None if all_namespaces else self.namespace)
        return Objects(self._connection, kind, call, path, selectors(labels, fields))


def _writing(*, dry_run: bool) -> list[tuple[str, str]]:
    return [_MANAGER, _STRICT, *([("dryRun", "All")] if dry_run else [])]
