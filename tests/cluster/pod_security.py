"""The restricted Pod Security level, as Kubernetes' admission enforces it: every control of baseline and restricted.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
}
_SELINUX = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(template: dict[str, Any]) -> list[str]:
    """What the restricted level has against a pod template; nothing where it may run."""
    return [*_of_the_pod(template), *_of_its_containers(template["spec"])]


def _of_the_pod(template: dict[str, Any]) -> Iterator[str]:
    pod = template["spec"]
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", ()):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}: {kind}"
    for sysctl in pod.get("securityContext", {}).get("sysctls", ()):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    for name, value in template.get("metadata", {}).get("annotations", {}).items():
        if name.startswith("container.apparmor.security.beta.kubernetes.io/") and value == "unconfined":
            yield name
    yield from _of_a_context("pod", pod.get("securityContext", {}))


def _of_its_containers(pod: dict[str, Any]) -> Iterator[str]:
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in pod.get(kind, ()):
            own = container.get("securityContext", {})
            yield from _of_a_context(container["name"], own)
            yield from (
                f"{container['name']}: {said}"
                for said in _of_a_container(container, own, pod.get("securityContext", {}))
            )


def _of_a_container(container: dict[str, Any], own: dict[str, Any], outer: dict[str, Any]) -> Iterator[str]:
    """Of the fields that only containers have, and those that they must have or inherit."""
    capabilities = own.get("capabilities", {})
    refused = {
        "privileged": own.get("privileged"),
        "allowPrivilegeEscalation is not false": own.get("allowPrivilegeEscalation") is not False,
        "runAsNonRoot is not true": own.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True,
        "no seccompProfile": "seccompProfile" not in own and "seccompProfile" not in outer,
        "procMount": own.get("procMount", "Default") != "Default",
        "capabilities are not all dropped": "ALL" not in capabilities.get("drop", ()),
        "capabilities are added": set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"},
        "hostPort": any(port.get("hostPort") for port in container.get("ports", ())),
    }
    yield from (name for name, is_so in refused.items() if is_so)


def _of_a_context(who: str, context: dict[str, Any]) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield f"{who}: runAsUser 0"
    if context.get("runAsNonRoot") is False:
        yield f"{who}: runAsNonRoot false"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in {"RuntimeDefault", "Localhost"}:
        yield f"{who}: seccompProfile"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in {"RuntimeDefault", "Localhost"}:
        yield f"{who}: appArmorProfile"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{who}: hostProcess"
    options = context.get("seLinuxOptions", {})
    if options.get("type", "") not in _SELINUX or options.get("user") or options.get("role"):
        yield f"{who}: seLinuxOptions"
