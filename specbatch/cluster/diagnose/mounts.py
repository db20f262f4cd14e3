"""Pods that have a node, but not their volumes yet."""

from __future__ import annotations

import re

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.amounts import listed
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.missing import config_map_missing, secret_key_missing, secret_missing
from specbatch.cluster.diagnose.storage import in_use_elsewhere
from specbatch.cluster.jobs.timestamps import event_line, event_start

_VOLUME = re.compile(r'for volume "([^"]+)"')
_SECRET = re.compile(r'secret "([^"]+)" not found')
_CONFIG_MAP = re.compile(r'configmap "([^"]+)" not found')
_KEY = re.compile(r"references non-existent (secret|config) key:? (\S+)")
_DRIVER = re.compile(r"driver name (\S+) not found in the list of registered CSI drivers")
_UNMOUNTED = re.compile(r"unmounted volumes=\[([^\]]*)\]")


def mount_problem(evidence: Evidence, pod: Object) -> Finding | None:
    """What keeps a pod's volumes away, by the newest words of the kubelet and of the attach controller."""
    if mounted(evidence, pod):
        return None
    attached = in_use_elsewhere(evidence, pod)
    if attached is not None:
        return attached
    events = evidence.events_of(pod, "FailedMount", "FailedAttachVolume", "FailedMapVolume")
    telling = [event for event in events if "failed to sync" not in str(event.get("message", ""))]
    # A timeout says only which volume is missing: an older event may say why.
    for event in sorted(telling, key=lambda one: "timed out" in str(one.get("message", ""))):
        return _of(evidence, pod, event)
    return None


def mounted(evidence: Evidence, pod: Object) -> bool:
    """Whether the kubelet has gone on to the image since: complaints about volumes and sandbox are over then."""
    return evidence.newest(pod, "Pulling", "Pulled", "Created", "Started") is not None


def _of(evidence: Evidence, pod: Object, event: Object) -> Finding:  # noqa: PLR0911 - a cause a return
    message = " ".join(str(event.get("message", "")).split())
    line, since = (event_line(event),), event_start(event)
    volume = _VOLUME.search(message)
    name = volume[1] if volume else ""
    if match := _SECRET.search(message):
        return secret_missing(match[1], line, since)
    if match := _CONFIG_MAP.search(message):
        return config_map_missing(evidence, match[1], line, since)
    if match := _KEY.search(message):
        kind = "Secret" if match[1] == "secret" else "ConfigMap"
        return secret_key_missing(match[2], f"the {kind} {_source(pod, name)}", line, since)
    if "hostPath type check failed" in message:
        return Finding(
            cause="host-path-missing",
            sentence=f"the folder that volume {name} names is not on the node: {message.partition('hostPath type check failed: ')[2]}",
            remedy="make the folder on every node that may be used, or take a claim instead of hostPath in spec.job.volumes",
            evidence=line,
            since=since,
        )
    if match := _DRIVER.search(message):
        return Finding(
            cause="csi-driver-missing",
            sentence=f"the node does not run the CSI driver {match[1]} that volume {name} needs",
            remedy="ask an admin to install it on that node, or take other nodes by spec.job.nodeSelector",
            evidence=line,
            since=since,
        )
    if event.get("reason") == "FailedAttachVolume":
        return Finding(
            cause="attach-failed",
            sentence=f"the volume {name} cannot be attached to the node",
            remedy="the message below is the storage driver's: ask an admin if it stays so",
            evidence=line,
            since=since,
        )
    if "timed out" in message or "deadline exceeded" in message.lower() or "DeadlineExceeded" in message:
        waiting = _UNMOUNTED.search(message)
        which = listed(waiting[1].split()) if waiting else name
        return Finding(
            cause="mount-timeout",
            sentence=f"mounting {which or 'the volumes'} takes longer than the kubelet waits",
            remedy="can the node reach the storage (NFS server, network, firewall)? it tries again by itself; ask an admin if it stays so",
            evidence=line,
            since=since,
        )
    return Finding(
        cause="mount-failed",
        sentence=f"the volume {name} cannot be mounted",
        remedy="the message below is the kubelet's: it names what the storage refuses; check the claim and its server",
        evidence=line,
        since=since,
    )


def _source(pod: Object, volume: str) -> str:
    """The Secret or ConfigMap of a volume."""
    for one in pod["spec"].get("volumes") or ():
        if one.get("name") == volume:
            return str(
                (one.get("secret") or {}).get("secretName") or (one.get("configMap") or {}).get("name") or volume
            )
    return volume
