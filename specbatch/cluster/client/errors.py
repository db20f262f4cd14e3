"""Error responses of the API server, and requests without a response, as ClusterErrors with a remedy. Pure."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from specbatch.cluster.client.flags import Flags
from specbatch.cluster.client.kinds import Kind
from specbatch.errors import ClusterError
from specbatch.formatting import first_lines

UNREACHABLE = "Unreachable"
TIMEOUT = "Timeout"
DROPPED = "Dropped"
TLS = "TLS"
_TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
_TRANSIENT_REASONS = frozenset({UNREACHABLE, TIMEOUT, DROPPED})
# A TLS connection that was cut; nothing is wrong with the certificates.
_TLS_DROPS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_CAUSES_SHOWN = 8
_TEXT_CHARS = 600


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API, for error messages."""

    verb: str
    kind: Kind | None = None
    name: str = ""
    namespace: str = ""
    subresource: str = ""
    server: str = ""
    context: str = ""
    flags: Flags = field(default_factory=Flags)

    @property
    def resource(self) -> str:
        """As RBAC rules write it: pods/log."""
        plural = self.kind.plural if self.kind else "the API"
        return f"{plural}/{self.subresource}" if self.subresource else plural

    @property
    def scope(self) -> str:
        """` in namespace x`, where there is one."""
        return f" in namespace {self.namespace}" if self.namespace else ""


def transient(error: ClusterError) -> bool:
    """Whether a retry may succeed."""
    return error.status in _TRANSIENT_STATUS if error.status else error.reason in _TRANSIENT_REASONS


def refused(call: Call, status: int, body: bytes) -> ClusterError:
    """The error of an HTTP response, or of the Status in an ERROR event."""
    answer = _parsed(body)
    reason = str(answer.get("reason") or "")
    text = str(answer.get("message") or body.decode("utf-8", "replace").strip()[:_TEXT_CHARS] or f"HTTP {status}")
    message, remedy = _sentence(call, status, reason, text, answer)
    return ClusterError(message, remedy=remedy, status=status, reason=reason)


def unreachable(call: Call, error: BaseException) -> ClusterError:
    """The error of a request without a response, by the causes of the library's exception."""
    causes = list(_causes(error))
    text = str(next((cause for cause in causes if isinstance(cause, OSError)), error)).strip() or type(error).__name__
    tls = next(
        (cause for cause in causes if isinstance(cause, ssl.SSLError) and not isinstance(cause, _TLS_DROPS)), None
    )
    if tls is not None:
        return ClusterError(
            f"TLS fails: {getattr(tls, 'verify_message', '') or tls}",
            where=call.server,
            remedy="the certificate-authority-data of the kubeconfig must be this cluster's (fetch the kubeconfig anew)",
            reason=TLS,
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        message, reason = f"the name of the API server cannot be resolved ({text})", UNREACHABLE
    elif any(isinstance(cause, TimeoutError) for cause in causes):
        message, reason = "the API server does not answer (timed out)", TIMEOUT
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        message, reason = "the API server refuses the connection", UNREACHABLE
    elif any(isinstance(cause, OSError) and not isinstance(cause, (ConnectionError, ssl.SSLError)) for cause in causes):
        message, reason = f"the API server cannot be reached ({text})", UNREACHABLE
    else:
        message, reason = f"the connection to the API server was lost ({text})", DROPPED
    shows = replace(call.flags, namespace=None).kubectl("config", "view", "--minify")
    remedy = f"is the cluster up, and the VPN? (context {call.context}: {shows} shows where it points)"
    return ClusterError(message, where=call.server, remedy=remedy, reason=reason)


Sentence = tuple[str, str | None]


def _sentence(call: Call, status: int, reason: str, text: str, answer: dict[str, Any]) -> Sentence:
    """Message and remedy."""
    kind = call.kind.name if call.kind else "path"
    named = f"{kind} {call.name}{call.scope}"
    if status == 403 and _is_rbac(text):
        return _forbidden(call, text)
    if status == 404:
        return _missing(call, kind, text, answer)
    if status == 409 and reason == "AlreadyExists":
        return f"{named} exists already", "take another name, or delete it first"
    if status >= 500:
        remedy = "try again; if it stays so, ask whoever runs the cluster"
        return f"the API server failed to {call.verb} {call.resource} (HTTP {status}): {text}", remedy
    sentences: dict[int, Sentence] = {
        401: (
            f"the credentials of context {call.context} are not accepted: they have expired, or belong to another cluster",
            "log in to the cluster again (what you did to get the kubeconfig), or name another --context",
        ),
        409: (f"{named} was changed meanwhile, or is another one now", "try again"),
        410: (f"the list of {call.resource} has expired meanwhile", "try again"),
        413: (f"{named} is too large for the cluster", "an object may hold 1 MiB: put large files into storage"),
        422: (f"{named} is not valid: {_causes_text(answer) or text}", None),
        429: (f"the API server is overloaded (tried to {call.verb} {call.resource}): {text}", "try again in a minute"),
    }
    return sentences.get(status, (f"the API server refuses to {call.verb} {call.resource}{call.scope}: {text}", None))


def _forbidden(call: Call, text: str) -> Sentence:
    where = call.scope or " in the whole cluster"
    remedy = f"ask an admin for the Role of k8s/submitter.yaml; the API server says: {text}"
    return f"not permitted to {call.verb} {call.resource}{where}", remedy


def _is_rbac(text: str) -> bool:
    """Whether a 403 is about permissions: quotas and admission webhooks answer 403 as well."""
    return " cannot " in text or text.startswith("Forbidden")


def _missing(call: Call, kind: str, text: str, answer: dict[str, Any]) -> tuple[str, str]:
    details = answer.get("details") or {}
    if (details.get("kind") == "namespaces" or text.startswith("namespaces ")) and kind != "Namespace":
        name = details.get("name") or call.namespace
        kubectl = replace(call.flags, namespace=None).kubectl
        return f"no namespace {name}", f"create it ({kubectl('create', 'namespace', name)}), or name another with -n"
    if not details.get("name") or not call.name:
        version = call.kind.api_version if call.kind else ""
        return f"this cluster knows no {kind} ({version})", f"install what brings {version} to the cluster"
    named = (
        f"no {details['kind'].partition('.')[0]} {details['name']}"
        if _of_another(call, details)
        else f"no {kind} {call.name}"
    )
    plural = call.kind.plural if call.kind else ""
    kubectl = replace(call.flags, namespace=call.namespace or None).kubectl
    return f"{named}{call.scope}", f"see what there is: {kubectl('get', plural)}"


def _of_another(call: Call, details: dict[str, Any]) -> bool:
    return bool(details.get("kind")) and details["name"] != call.name


def _causes_text(answer: dict[str, Any]) -> str:
    causes = (answer.get("details") or {}).get("causes") or []
    # "[]" and "<nil>" mean the whole object.
    fields = ["" if cause.get("field") in {None, "[]", "<nil>"} else f"{cause['field']}: " for cause in causes]
    texts = [f"{field}{cause.get('message', '')}" for field, cause in zip(fields, causes, strict=True)]
    return "; ".join(first_lines(texts, _CAUSES_SHOWN))


def _parsed(body: bytes) -> dict[str, Any]:
    """The Status in a response; proxies respond with HTML pages instead."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and those it wraps: by cause, context, or (urllib3's ProtocolError) as an argument."""
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        found = queue.pop(0)
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            queue += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
