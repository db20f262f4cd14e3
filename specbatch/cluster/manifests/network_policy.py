"""NetworkPolicies: what pods of runs may reach, and those that fetch models. Nothing reaches them.

Ports are parameters. The address where clouds hand out a node's credentials is left out of every rule, whatever the parameters say. Policies
add up: who may create them in the namespace can allow more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.fetch_job import fetch_run_name
from specbatch.cluster.manifests.names import COMPONENT, CONTAINER, FETCH, READER, RUN

HTTPS = 443
_DNS = 53
_DEFAULT_PORTS = {"http": 80, "https": HTTPS, "socks5": 1080, "socks5h": 1080}
_HUB = "HF_ENDPOINT"
# All addresses but those of instance metadata (AWS, Azure, Google, Alibaba, ... by IPv4; AWS by IPv6). Pods of the cluster are named as well: some
# network plugins (Cilium) do not count them to any block of addresses.
_ANYWHERE: list[Object] = [
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}},
    {"namespaceSelector": {}},
]


def namespace_policies(ports: Iterable[int], fetch_ports: Iterable[int]) -> list[Object]:
    """For all runs of a namespace: k8s/network-policy.yaml, and the chart's.

    Args:
        ports: TCP ports that runs, and the pods that collect reads through, may reach anywhere: storage, proxies.
        fetch_ports: those of pods that fetch models: the hub or its mirror, proxies.
    """
    return [
        _policy("specbatch-runs", {}, [CONTAINER, READER], ports),
        _policy("specbatch-fetch", {}, [FETCH], fetch_ports),
    ]


def policies_of(job: SpecBatchJob, more: Iterable[int] = ()) -> list[Object]:
    """For the pods of one spec: the ports of the addresses in it, and `more`. A port in a Secret is not known."""
    name, further = job.metadata.name, list(more)
    fetch = fetch_run_name(name)
    return [
        _policy(name, {RUN: name}, [CONTAINER, READER], [*run_ports(job), *further], job.metadata.namespace),
        _policy(fetch, {RUN: fetch}, [FETCH], [*fetch_ports(job), *further], job.metadata.namespace),
    ]


def run_ports(job: SpecBatchJob) -> list[int]:
    """The TCP ports that a run needs: of its store, of the addresses in job.env, and of the hub where models may be downloaded."""
    cache = job.spec.job.volumes.model_cache
    offline = cache is not None and cache.read_only
    urls = [job.spec.dataset.uri, job.spec.results.publish or ""]
    environment = {name: value for name, value in job.spec.job.env.items() if not (offline and name == _HUB)}
    hub = [] if offline else [environment.get(_HUB) or "https://huggingface.co"]
    return _ports([*urls, *hub, *environment.values()])


def fetch_ports(job: SpecBatchJob) -> list[int]:
    """The TCP ports that fetching models needs: of the hub or its mirror, and of proxies."""
    environment = job.spec.job.env
    proxies = [value for name, value in environment.items() if name.lower().endswith("_proxy") and name.lower() != "no_proxy"]  # fmt: skip
    return _ports([environment.get(_HUB) or "https://huggingface.co", *proxies])


def _ports(urls: Iterable[str]) -> list[int]:
    """Of the URLs among these texts; a store's own scheme (s3, gs, abfs, hf) is spoken over HTTPS, if no endpoint says otherwise."""
    found = set()
    for url in urls:
        parts = urlsplit(url) if "://" in url else None
        if parts is not None and parts.scheme and parts.scheme != "file":
            http = parts.scheme in _DEFAULT_PORTS
            found.add((http and _port(parts.netloc)) or _DEFAULT_PORTS.get(parts.scheme, HTTPS))
    return sorted(found)


def _port(netloc: str) -> int | None:
    text = netloc.rpartition("@")[2].rpartition("]")[2].rpartition(":")[2]
    return int(text) if text.isascii() and text.isdecimal() and ":" in netloc and 0 < int(text) < 65536 else None


def _policy(
    name: str, labels: Object, components: Collection[str], ports: Iterable[int], namespace: str | None = None
) -> Object:
    egress = [{"to": _ANYWHERE, "ports": [{"protocol": protocol, "port": _DNS} for protocol in ("UDP", "TCP")]}]
    tcp = [{"protocol": "TCP", "port": port} for port in sorted(set(ports))]
    if tcp:
        egress.append({"to": _ANYWHERE, "ports": tcp})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, **({} if namespace is None else {"namespace": namespace})},
        "spec": {
            "podSelector": {
                "matchLabels": {"app.kubernetes.io/name": "specbatch", **labels},
                "matchExpressions": [{"key": COMPONENT, "operator": "In", "values": list(components)}],
            },
            "policyTypes": ["Ingress", "Egress"],  # no rule for ingress: it is denied
            "egress": egress,
        },
    }
