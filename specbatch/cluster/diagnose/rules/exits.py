"""Pods that have failed: ended by the cluster, or by themselves, with an exit code and the termination message of the runner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, Said
from specbatch.cluster.diagnose.rules.kubelet import ARCHITECTURE, COMMAND, STARTS, container_statuses
from specbatch.cluster.jobs.job_view import condition, reason_text
from specbatch.cluster.manifests.pod import USER
from specbatch.cluster.status.pod_log import readable, whole_lines
from specbatch.cluster.status.pod_state import container_state, node_of, termination_message
from specbatch.errors import ExitCode
from specbatch.formatting import one_line
from specbatch.results.protocol import TerminationMessage

# Of "reason: message", the reason being that of the condition DisruptionTarget or of the pod. Limits come first: the pod would exceed them again.
_DISRUPTIONS = (
    Cause("shared-memory-full", r'Usage of EmptyDir volume "shm" exceeds the limit "(?P<limit>[^"]+)"',
        "the shared memory (/dev/shm) is too small: more than {limit} was written to it",
        "raise spec.job.sharedMemory, and the memory limit with it"),
    Cause("disk-limit", r'Usage of EmptyDir volume "(?P<volume>[^"]+)" exceeds the limit "(?P<limit>[^"]+)"',
        "the volume {volume} may hold {limit}, and more was written to it",
        "raise its sizeLimit in spec.job.volumes, or take a claim"),
    Cause("disk-limit", r'ephemeral (local )?storage (usage exceeds the total )?limit (of containers )?"?(?P<limit>[^".\s]+)',
        "the pod wrote more than its limit of ephemeral storage ({limit}) to the node's disk",
        "raise spec.job.resources.limits.ephemeral-storage; take a claim for the model cache (spec.job.volumes.modelCache): without one every pod downloads to the node's disk"),
    Cause("evicted", r"^(Evicted|TerminationByKubelet)(?P<why>: \S.*)?", "the node evicted the pod{why}",
        "set spec.job.resources.requests (memory, ephemeral-storage) to what the pod uses: the scheduler then sets it aside; take a claim for the model cache (spec.job.volumes.modelCache), or ask an admin to clear a full disk"),
    Cause("node-refused", r"^(?P<reason>UnexpectedAdmissionError|OutOf\w*|NodeAffinity|NodePorts):",
        "the node turned the pod away ({reason})",
        "the node had changed since the scheduler looked at it; if it happens on the same node again, a GPU there is ill or the device plugin was restarted: ask an admin", "warning"),
    Cause("preempted", r"^(PreemptionByScheduler|Preempting):", "the pod had to make room for one of a higher priority",
        "", "warning"),
    Cause("drained", r"^(EvictionByEvictionAPI|NodeShutdown|Terminated|Shutdown):",
        "the pod was evicted: its node is being drained or shut down, or somebody asked for it",
        "", "warning"),
    Cause("node-lost", r"^(DeletionByTaintManager|DeletionByPodGC|NodeLost):",
        "the pod's node is gone, or was tainted, and the pod was taken off it",
        "", "warning"),
    Cause("disrupted", r"^(?P<reason>\S+):", "the cluster ended the pod ({reason})", "", "warning"),
)  # fmt: skip
_SAYS = "{meaning} (exit code {code}){said}"
_MODEL, _GPU, _RESULTS = ExitCode.MODEL_MISSING.value, ExitCode.GPU_FAULT.value, ExitCode.RESULTS_NOT_WRITTEN.value
_HARDWARE = r"\bXid\b\s*(\([^)]*\))?[\s:]*(error\s*)?(48|62|63|64|74|79|94|95|119|120)\b"  # https://docs.nvidia.com/deploy/xid-errors/
_CREDENTIALS = r"credential|Access ?Denied|InvalidAccessKeyId|SignatureDoesNotMatch|\b40[13]\b|Forbidden|Unauthorized"
# Of "exit code: what the process said", or of the reason of a container that was killed.
_KNOWN = (
    Cause("out-of-memory-killed", r"^OOMKilled: (?P<limit>\S+)",
        "the pod used more memory than its limit of {limit}, and was killed (OOMKilled)",
        "raise spec.job.resources.limits.memory (specbatch plan FILE says what the models need; /dev/shm counts, too)"),
    Cause("node-out-of-memory", r"^OOMKilled:",
        "the node ran out of memory, and the kernel killed the process (OOMKilled; the pod has no memory limit)",
        "set spec.job.resources.requests.memory (and limits.memory) to what the models need: specbatch plan FILE says how much"),
    Cause("node-lost", r"^ContainerStatusUnknown:",
        "the pod ended without a word: most likely its node was lost or restarted",
        "if it comes back: ask an admin about the node"),
    Cause("model-not-permitted", rf"^{_MODEL}: .*(\bgated\b|GatedRepo|\b40[13]\b|unauthorized|forbidden|access to model|not permitted to|awaiting a review)",
        _SAYS,
        "accept the model's licence on the hub; keep a token of that account in a Secret ({kubectl} create secret generic hf --from-literal=token=hf_...), and set spec.job.secretEnv: {{HF_TOKEN: {{name: hf, key: token}}}}"),
    Cause("results-volume-full", rf"^{_RESULTS}: .*(no space left|disk quota exceeded|disk is full)", _SAYS,
        "make the results' claim larger ({kubectl} edit pvc), or clear it"),
    Cause("storage-not-permitted", rf"^{_RESULTS}: .*://.*({_CREDENTIALS})", _SAYS,
        "keep the storage's credentials in a Secret, and name it in spec.job.secretEnvFrom: [{{name: ...}}] (or use a service account with a cloud identity); they must allow to list and write there"),
    Cause("results-not-written", rf"^{_RESULTS}: (?!.*://).*(permission denied|operation not permitted|read-only file system)",
        _SAYS,
        "the pod is user and group {user}, which may not write there: see that the claim is not mounted read-only, and chown the volume's folder to {user}:{user}, or give the pod the folder's group by spec.job.podTemplate: {{spec: {{securityContext: {{fsGroup: GID}}}}}} (hostPath and many NFS volumes take no notice of fsGroup)"),
    Cause("gpus-not-visible", rf"^{_GPU}: .*(but this process sees|see no GPUs|no CUDA-capable device)", _SAYS,
        "the pod has the GPU resource, but its container does not see as many GPUs: set spec.job.runtimeClassName: nvidia where the cluster asks for it, or ask an admin about the device plugin and the container toolkit of that node"),
    Cause("gpu-fault", rf"^{_GPU}: .*{_HARDWARE}", _SAYS,
        "ask an admin to take the node out and reset or replace the GPU"),
    replace(ARCHITECTURE, says=rf"^1: .*{ARCHITECTURE.says}"),
    replace(COMMAND, says=rf"^12[67]:|^1: .*({COMMAND.says})"),
    Cause("killed", r"^137:", "the process was killed (exit code 137, SIGKILL), and not by its memory limit",
        "the node may have run out of memory (set spec.job.resources.requests.memory to what is needed), or the time to stop was over (spec.job.terminationGracePeriodSeconds)"),
    Cause("stopped", r"^143:", "the process was told to stop (exit code 143) before it could listen", "", "warning"),
    Cause("crashed", r"^(134|135|136|139):", "the process crashed in native code (exit code {code}, {signal})",
        "often driver and CUDA of the image do not go together, or a GPU is ill: try another node, then another image; {logs} has what came before"),
)  # fmt: skip
# Those of which the runner's own remedy is the better one.
_RUNNER = (
    Cause("bad-spec", "^64:", _SAYS, "correct the spec"),
    Cause("bad-dataset", "^65:", _SAYS, "correct the dataset, or raise spec.dataset.errorBudget"),
    Cause("model-missing", "^66:", _SAYS, "correct spec.target.model and spec.drafter.model"),
    Cause("out-of-reach", "^68:", _SAYS, "see that pods may reach that address (network policy, proxy, DNS), and that credentials are renewed"),
    Cause("gpu-fault", "^69:", _SAYS, "if it stays with that node, ask an admin to take the node out"),
    Cause("out-of-gpu-memory", "^70:", _SAYS, "use more or larger GPUs (spec.placement.gpus), a shorter batching.maxLength, or fewer batching.maxSequences"),
    Cause("results-not-written", "^74:", _SAYS, "see that the volume has room, and that user {user} may write to it"),
    Cause("stopped", "^75:", _SAYS, "everything finished is saved", "warning"),
    Cause("error", "", "the process failed (exit code {code}){said}", "{logs} shows the traceback: please report it if it is specbatch's own"),
)  # fmt: skip
_SIGNALS = {134: "SIGABRT", 135: "SIGBUS: often /dev/shm is too small", 136: "SIGFPE", 139: "SIGSEGV"}
_LINE_CHARS = 400
_ERROR_CHARS = 300


def failure(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Why a pod failed: ended by the cluster, or by itself."""
    status = pod.get("status") or {}
    if status.get("phase") == "Failed":
        target = condition(pod, "DisruptionTarget") or {}
        message = " ".join(str(status.get("message") or target.get("message") or "").split())
        text = f"{target.get('reason') or status.get('reason') or ''}: {message}"
        said = Said(text, f"{_named(pod)}: {text}", target.get("lastTransitionTime"))
        yield evidence.recognise(_DISRUPTIONS, said) or _own_end(evidence, pod)


def _own_end(evidence: Evidence, pod: Object) -> Finding:
    """By the reason of its container, or by exit code and last words."""
    ended = container_state(pod).get("terminated") or {}
    code, message = int(ended.get("exitCode") or 0), " ".join(str(ended.get("message") or "").split())
    word = termination_message(pod) or TerminationMessage()
    states = ((one.get("name"), (one.get("state") or {}).get("terminated") or {}) for one in container_statuses(pod))
    killed = [str(name) for name, state in states if state.get("reason") == "OOMKilled"]
    causes: Sequence[Cause] = _KNOWN
    text = f"{code}: {word.reason if word.exit_code is not None else message}"
    if killed:
        text = f"OOMKilled: {_memory_limit(pod, killed[0])}"
    elif ended.get("reason") == "ContainerStatusUnknown" or "exitCode" not in ended:
        text = "ContainerStatusUnknown:"
    elif ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        causes, text = STARTS, message
    elif code == _MODEL:
        text = f"{text} {word.remedy}"
    said = Said(text, _line(pod, ended, word), ended.get("finishedAt"))
    fields = {
        "code": code,
        "meaning": ExitCode(code).meaning if code in set(ExitCode) else "",
        "said": f": {one_line(word.reason, _ERROR_CHARS)}" if word.reason else "",
        "signal": _SIGNALS.get(code),
        "user": USER,
    }
    found = evidence.recognise(causes, said, **fields)
    if found is None:
        found = evidence.recognise(_RUNNER, said, **fields)
        assert found is not None  # the last of them is of any text
        found = replace(found, remedy=word.remedy or found.remedy)
    return found


def _line(pod: Object, ended: Object, word: TerminationMessage) -> str:
    """What is known of the end, in one line: of a long log its end, and of the runner's own words nothing, which are the sentence."""
    log = "" if word.error and word.exit_code is not None else str(ended.get("message") or "")
    text = " ".join(" ".join(map(readable, whole_lines(log))).split())
    code = f"exit code {ended['exitCode']}" if "exitCode" in ended else "no exit code"
    reason = f", {ended['reason']}" if ended.get("reason") not in {None, "Error"} else ""
    shown = text if len(text) <= _LINE_CHARS else f"…{text[-_LINE_CHARS:]}"
    return ": ".join(filter(None, (_named(pod), f"{code}{reason}", reason_text(pod["status"]), shown)))


def _named(pod: Object) -> str:
    return f"pod {pod['metadata']['name']} (node {node_of(pod) or '?'})"


def _memory_limit(pod: Object, container: str) -> str:
    """Of a container, or of the whole pod; empty where there is none."""
    own = [one for one in pod["spec"].get("containers") or () if one.get("name") == container]
    limits = [((one.get("resources") or {}).get("limits") or {}).get("memory") for one in (*own, pod["spec"])]
    return next((str(limit) for limit in limits if limit), "")
