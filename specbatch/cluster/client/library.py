"""The one module that imports `kubernetes`, inside functions: the import takes half a second.

The library finds the credentials (kubeconfig, exec plugins, a pod's service account, proxies) and sends requests; its models are not used.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import os
from http.client import HTTPException
from typing import Any

from specbatch.cluster.client.config import ClusterContext, logged_errors, no_credentials
from specbatch.cluster.client.connection import Connection
from specbatch.cluster.client.errors import Call
from specbatch.cluster.client.exec import IDLE_SECONDS

Failures = tuple[type[Exception], ...]


def failures() -> Failures:
    """The exceptions of requests without a response."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    return HTTPError, ApiException, HTTPException, OSError


def load(context: ClusterContext) -> Any:
    """The library's client with the credentials of a context."""
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import load_incluster_config, load_kube_config
    from urllib3 import disable_warnings
    from urllib3.exceptions import InsecureRequestWarning

    configuration = Configuration()
    configuration.retries = False  # Connection retries, not urllib3
    configuration.keep_alive = True  # keeps silent streams alive through proxies and NAT
    with logged_errors() as logged:
        try:
            if context.inside:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # as it comes
            else:
                files = os.pathsep.join(str(file) for file in context.files)
                load_kube_config(config_file=files, context=context.name, client_configuration=configuration)  # type: ignore[no-untyped-call]  # as it comes
        except Exception as error:  # a broken kubeconfig may raise anything
            raise no_credentials(context, [*logged, str(error)]) from error
    if configuration.host.startswith("https") and not (configuration.api_key or configuration.cert_file):
        raise no_credentials(context, logged)
    if not configuration.verify_ssl:
        disable_warnings(InsecureRequestWarning)  # the kubeconfig says insecure-skip-tls-verify
    if context.direct:
        configuration.proxy = None
    return ApiClient(configuration)


def websocket(connection: Connection, call: Call, path: str) -> Any:
    """One attempt to open a websocket."""
    from kubernetes.stream.ws_client import create_websocket, get_websocket_url
    from websocket import WebSocketBadStatusException, WebSocketException

    configuration = connection.client.configuration
    try:
        socket = create_websocket(configuration, get_websocket_url(f"{configuration.host}{path}"), connection.headers())  # type: ignore[no-untyped-call]  # as it comes
    except WebSocketBadStatusException as error:
        raise connection.answered(call, error.status_code, error.resp_body or b"", error.resp_headers or {}) from error
    except (WebSocketException, OSError) as error:
        raise connection.failed(call, error) from error
    socket.settimeout(IDLE_SECONDS)
    return socket
