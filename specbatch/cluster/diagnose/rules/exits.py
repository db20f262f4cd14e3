"""Pods that have failed: by the exit code of their container, and the termination message of the runner where it left one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding, Message, recognise
from specbatch.cluster.diagnose.rules.containers import ARCHITECTURE, COMMAND, container_statuses, start_failure
from specbatch.cluster.diagnose.rules.disruptions import disruption
from specbatch.cluster.manifests.pod import USER
from specbatch.cluster.status.pod_log import readable, whole_lines
from specbatch.cluster.status.pod_state import container_state, node_of, termination_message
from specbatch.errors import ExitCode
from specbatch.results.protocol import TerminationMessage

# Of "exit code: message": causes within an exit code of the runner, whose own words are the sentence.
_XID = r"\bXid\b\s*(\([^)]*\))?\s*:?\s*(error\s*)?"
_HARDWARE = r"48|62|63|64|74|79|94|95|119|120"  # the Xids that ask for a reset or another GPU: https://docs.nvidia.com/deploy/xid-errors/
_CREDENTIALS = r"credential|Access ?Denied|InvalidAccessKeyId|SignatureDoesNotMatch|\b40[13]\b|Forbidden|Unauthorized"
_RUNNER = (
    Message(
        "model-not-permitted",
        rf"^{ExitCode.MODEL_MISSING:d}: .*(\bgated\b|GatedRepo|\b40[13]\b|unauthorized|forbidden|access to model|not permitted to|awaiting a review)",
        "",
        "accept the model's licence on the hub; keep a token of that account in a Secret (kubectl create secret generic hf "
        "--from-literal=token=hf_...), and set spec.job.secretEnv: {{HF_TOKEN: {{name: hf, key: token}}}}",
    ),
    Message(
        "results-volume-full",
        rf"^{ExitCode.RESULTS_NOT_WRITTEN:d}: .*(no space left|disk quota exceeded|disk is full)",
        "",
        "make the results' claim larger (kubectl edit pvc), or clear it",
    ),
    Message(
        "storage-not-permitted",
        rf"^{ExitCode.RESULTS_NOT_WRITTEN:d}: .*://.*({_CREDENTIALS})",
        "",
        "keep the storage's credentials in a Secret, and name it in spec.job.secretEnvFrom: [{{name: ...}}] (or use a service account with a "
        "cloud identity); they must allow to list and write there",
    ),
    Message(
        "results-not-written",
        rf"^{ExitCode.RESULTS_NOT_WRITTEN:d}: (?!.*://).*(permission denied|operation not permitted|read-only file system)",
        "",
        f"the pod is user and group {USER}, which may not write there: see that the claim is not mounted read-only, and chown the volume's "
        f"folder to {USER}:{USER}, or give the pod the folder's group by spec.job.podTemplate: {{{{spec: {{{{securityContext: {{{{fsGroup: "
        "GID}}}}}}}}}}}} (hostPath and many NFS volumes take no notice of fsGroup)",
    ),
    Message(
        "gpus-not-visible",
        rf"^{ExitCode.GPU_FAULT:d}: .*(but this process sees|see no GPUs|no CUDA-capable device)",
        "",
        "the pod has the GPU resource, but its container does not see as many GPUs: set spec.job.runtimeClassName: nvidia where the cluster "
        "asks for it, or ask an admin about the device plugin and the container toolkit of that node",
    ),
    Message(
        "gpu-fault",
        rf"^{ExitCode.GPU_FAULT:d}: .*{_XID}({_HARDWARE})\b",
        "",
        "ask an admin to take the node out and reset or replace the GPU",
    ),
)
_CODES = {
    ExitCode.BAD_SPEC: ("bad-spec", "correct the spec"),
    ExitCode.BAD_DATASET: ("bad-dataset", "correct the dataset, or raise spec.dataset.errorBudget"),
    ExitCode.MODEL_MISSING: ("model-missing", "correct spec.target.model and spec.drafter.model"),
    ExitCode.OUT_OF_REACH: ("out-of-reach", "see that pods may reach that address (network policy, proxy, DNS), and that credentials are renewed"),
    ExitCode.GPU_FAULT: ("gpu-fault", "if it stays with that node, ask an admin to take the node out"),
    ExitCode.OUT_OF_MEMORY: ("out-of-gpu-memory", "use more or larger GPUs (spec.placement.gpus), a shorter batching.maxLength, or fewer batching.maxSequences"),
    ExitCode.RESULTS_NOT_WRITTEN: ("results-not-written", "see that the volume has room, and that user 10001 may write to it"),
    ExitCode.STOPPED: ("stopped", "everything finished is saved"),
}  # fmt: skip
# Of "exit code: message", where the process is not the runner any more, or not yet.
_PROCESS = (
    ARCHITECTURE,
    replace(COMMAND, pattern=rf"^12[67]:|{COMMAND.pattern}"),
    Message(
        "killed",
        r"^137:",
        "the process was killed (exit code 137, SIGKILL), and not by its memory limit",
        "the node may have run out of memory (set spec.job.resources.requests.memory to what is needed), or the time to stop was over "
        "(spec.job.terminationGracePeriodSeconds)",
    ),
    Message(
        "stopped",
        r"^143:",
        "the process was told to stop (exit code 143) before it could listen",
        "",
        "warning",
    ),
    Message(
        "crashed",
        r"^(?P<code>134|135|136|139):",
        "the process crashed in native code (exit code {code}, {signal})",
        "often driver and CUDA of the image do not go together, or a GPU is ill: try another node, then another image; specbatch logs has "
        "what came before",
    ),
    Message(
        "error",
        r"^(?P<code>\d+):",
        "the process failed (exit code {code})",
        "specbatch logs shows the traceback: please report it if it is specbatch's own",
    ),
)
_SIGNALS = {134: "SIGABRT", 135: "SIGBUS: often /dev/shm is too small", 136: "SIGFPE", 139: "SIGSEGV"}
_OOM = Message(
    "out-of-memory-killed",
    "",
    "the pod used more memory than its limit of {limit}, and was killed (OOMKilled)",
    "raise spec.job.resources.limits.memory (specbatch plan FILE says what the models need; /dev/shm counts, too)",
)
_NODE_OOM = Message(
    "node-out-of-memory",
    "",
    "the node ran out of memory, and the kernel killed the process (OOMKilled; the pod has no memory limit)",
    "set spec.job.resources.requests.memory (and limits.memory) to what the models need: specbatch plan FILE says how much",
)
_NODE_LOST = Message(
    "node-lost",
    "",
    "the pod ended without a word: most likely its node was lost or restarted",
    "if it comes back: ask an admin about the node",
)
_LINE_CHARS = 400
_ERROR_CHARS = 300


def failure(_: Evidence, pod: Object) -> Iterator[Finding]:
    """Why a pod failed: by the cluster, or by itself."""
    if (pod.get("status") or {}).get("phase") == "Failed":
        yield disruption(pod) or _own_end(pod)


def _own_end(pod: Object) -> Finding:
    ended = container_state(pod).get("terminated") or {}
    message = str(ended.get("message") or "")
    word = termination_message(pod) or TerminationMessage()
    killed = next((one for one in container_statuses(pod) if _reason(one) == "OOMKilled"), None)
    finding = None
    if killed is not None:
        limit = _memory_limit(pod, str(killed.get("name")))
        finding = _OOM.finding(limit=limit) if limit else _NODE_OOM.finding()
    elif ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        finding = start_failure(message)
    elif ended.get("reason") != "ContainerStatusUnknown" and "exitCode" in ended:
        finding = _by_exit_code(int(ended["exitCode"]), word, " ".join(message.split()))
    own = word.error and word.exit_code is not None  # said in the sentence already
    return (finding or _NODE_LOST.finding()).seen([_line(pod, ended, "" if own else message)], ended.get("finishedAt"))


def _by_exit_code(code: int, word: TerminationMessage, message: str) -> Finding | None:
    reason = word.reason if len(word.reason) <= _ERROR_CHARS else f"{word.reason[: _ERROR_CHARS - 1]}…"
    said = f": {reason}" if reason else ""
    if code not in _CODES:
        found = recognise(_PROCESS, f"{code}: {message}", signal=_SIGNALS.get(code, ""))
        if found is not None and found.cause == "error":
            return replace(found, sentence=f"{found.sentence}{said}", remedy=word.remedy or found.remedy)
        return found
    cause, remedy = _CODES[ExitCode(code)]
    more = f" {word.remedy}" if code == ExitCode.MODEL_MISSING else ""
    special = recognise(_RUNNER, f"{code}: {word.reason or message}{more}")
    xid = re.search(rf"{_XID}(?P<number>\d{{1,3}})\b", word.reason, re.IGNORECASE)
    return Finding(
        cause=special.cause if special else cause,
        sentence=f"{ExitCode(code).meaning} (exit code {code}){said}" + (f" (Xid {xid['number']})" if xid else ""),
        remedy=special.remedy if special else word.remedy or remedy,
        severity="warning" if code == ExitCode.STOPPED else "error",
    )


def _reason(status: Object) -> str:
    return str(((status.get("state") or {}).get("terminated") or {}).get("reason") or "")


def _line(pod: Object, ended: Object, message: str) -> str:
    """What is known of the end, in one line; of a long log its end."""
    text = " ".join(" ".join(readable(line) for line in whole_lines(message)).split())
    shown = text if len(text) <= _LINE_CHARS else f"…{text[-_LINE_CHARS:]}"
    code = f"exit code {ended['exitCode']}" if "exitCode" in ended else "no exit code"
    reason = f", {ended['reason']}" if ended.get("reason") not in {None, "Error"} else ""
    status = ": ".join(str(pod["status"][name]) for name in ("reason", "message") if pod["status"].get(name))
    parts = "".join(f": {part}" for part in (status, shown) if part)
    return f"pod {pod['metadata']['name']} (node {node_of(pod) or '?'}): {code}{reason}{parts}"


def _memory_limit(pod: Object, container: str) -> str | None:
    spec = pod["spec"]
    own: Object = next((one for one in spec.get("containers") or () if one.get("name") == container), {})
    limits = (((thing.get("resources") or {}).get("limits") or {}).get("memory") for thing in (own, spec))
    return next((str(limit) for limit in limits if limit), None)
