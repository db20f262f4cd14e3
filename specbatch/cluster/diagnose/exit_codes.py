"""Exit codes of the runner's process, with what its last word says."""

from __future__ import annotations

import re
from collections.abc import Mapping

from specbatch.cluster.diagnose.containers import command_not_found, wrong_architecture
from specbatch.cluster.diagnose.finding import Finding, Mood
from specbatch.cluster.manifests.pod import USER
from specbatch.cluster.status.pod_log import LastWord
from specbatch.errors import ExitCode

_CAUSES: Mapping[int, tuple[str, str]] = {
    ExitCode.BAD_SPEC: ("bad-spec", "correct the spec, and submit it again"),
    ExitCode.BAD_DATASET: ("bad-dataset", "correct the dataset, or raise spec.dataset.errorBudget, and submit again"),
    ExitCode.MODEL_MISSING: ("model-missing", "correct spec.target.model and spec.drafter.model, and submit again"),
    ExitCode.OUT_OF_REACH: ("out-of-reach", "it is tried again; where it stays so, see that pods may reach that address (network policy, proxy, DNS), and that credentials are renewed"),
    ExitCode.GPU_FAULT: ("gpu-fault", "it is tried again; should it come back on the same node, ask an admin to take that node out"),
    ExitCode.OUT_OF_MEMORY: ("out-of-gpu-memory", "use more or larger GPUs (spec.placement.gpus), a shorter batching.maxLength, or fewer batching.maxSequences"),
    ExitCode.RESULTS_NOT_WRITTEN: ("results-not-written", "see that the volume has room, and that user 10001 may write to it; finished rows are kept"),
    ExitCode.STOPPED: ("stopped", "nothing: the pod was told to stop, everything finished is saved, and it is started again"),
}  # fmt: skip
_NO_RIGHT = (
    f"the pod is user and group {USER}, which may not write there: see that the claim is not mounted read-only, and chown the volume's folder to "
    f"{USER}:{USER}, or give the pod the folder's group by spec.job.podTemplate: {{spec: {{securityContext: {{fsGroup: GID}}}}}} (hostPath and many NFS "
    "volumes take no notice of fsGroup)"
)
_NOT_PERMITTED = re.compile(
    r"\bgated\b|GatedRepo|\b40[13]\b|unauthorized|forbidden|access to model|not permitted to|awaiting a review",
    re.IGNORECASE,
)
_NO_SPACE = re.compile(r"no space left|disk quota exceeded|disk is full", re.IGNORECASE)
_NOT_WRITABLE = re.compile(r"permission denied|operation not permitted|read-only file system", re.IGNORECASE)
_NO_CREDENTIALS = re.compile(
    r"credential|AccessDenied|Access Denied|InvalidAccessKeyId|SignatureDoesNotMatch|\b40[13]\b|Forbidden|Unauthorized",
    re.IGNORECASE,
)
_XID = re.compile(r"\bXid\b\s*(?:\([^)]*\))?\s*:?\s*(?:error\s*)?(\d{1,3})\b", re.IGNORECASE)
# Those that mean hardware: https://docs.nvidia.com/deploy/xid-errors/
_XIDS: Mapping[int, str] = {
    48: "double-bit memory error",
    62: "internal micro-controller halt",
    63: "memory row remapped",
    64: "memory row could not be remapped",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "the GPU's system processor does not answer",
    120: "error of the GPU's system processor",
}
_INVISIBLE = re.compile(r"but this process sees|see no GPUs|no CUDA-capable device", re.IGNORECASE)
_ERROR_CHARS = 300


def by_exit_code(  # noqa: PLR0911 - a cause a return
    code: int, word: LastWord, message: str, line: tuple[str, ...], since: str | None
) -> Finding:
    """What an exit code says, and the runner's own words where it left any.

    Args:
        code: the exit code.
        word: the last word, as it was read.
        message: the last word as it came.
        line: evidence.
        since: when it ended.
    """
    if code in _CAUSES:
        return _of_the_runner(code, word, message, line, since)
    if "exec format error" in message:
        return wrong_architecture(line, since)
    if code in {126, 127} or "No module named specbatch" in message or "No module named 'specbatch'" in message:
        return command_not_found(line, since)
    said = _shortened(word.reason)
    if code == 137:
        return Finding(
            cause="killed",
            sentence="the process was killed (exit code 137, SIGKILL), and not by its memory limit",
            remedy="the node may have run out of memory (set spec.job.resources.requests.memory to what is needed), or the time to stop was "
            "over (spec.job.terminationGracePeriodSeconds)",
            evidence=line,
            since=since,
        )
    if code == 143:
        return Finding(
            cause="stopped",
            sentence="the process was told to stop (exit code 143) before it could listen",
            remedy="nothing: it is started again",
            evidence=line,
            since=since,
            mood="waiting",
        )
    if code in {134, 135, 136, 139}:
        return Finding(
            cause="crashed",
            sentence=f"the process crashed in native code (exit code {code}, {_SIGNALS[code]})",
            remedy="often driver and CUDA of the image do not go together, or a GPU is ill: try another node, then another image; "
            "specbatch logs has what came before",
            evidence=line,
            since=since,
        )
    return Finding(
        cause="error",
        sentence=f"the process failed (exit code {code}){f': {said}' if said else ''}",
        remedy=word.remedy or "specbatch logs shows the traceback: please report it if it is specbatch's own",
        evidence=line,
        since=since,
    )


_SIGNALS = {134: "SIGABRT", 135: "SIGBUS: often /dev/shm is too small", 136: "SIGFPE", 139: "SIGSEGV"}


def _of_the_runner(code: int, word: LastWord, message: str, line: tuple[str, ...], since: str | None) -> Finding:
    cause, remedy = _CAUSES[code]
    meaning, said = ExitCode(code).meaning, _shortened(word.reason)
    sentence = f"{meaning} (exit code {code}){f': {said}' if said else ''}"
    xid = _XID.search(message) if code == ExitCode.GPU_FAULT else None
    if code == ExitCode.MODEL_MISSING and _NOT_PERMITTED.search(f"{word.reason} {word.remedy}"):
        cause = "model-not-permitted"
        remedy = (
            "accept the model's licence on the hub; keep a token of that account in a Secret (kubectl create secret generic hf "
            "--from-literal=token=hf_...), and set spec.job.secretEnv: {HF_TOKEN: {name: hf, key: token}}; then submit again"
        )
    elif code == ExitCode.RESULTS_NOT_WRITTEN and _NO_SPACE.search(message):
        cause, remedy = (
            "results-volume-full",
            "make the results' claim larger (kubectl edit pvc), or clear it; finished rows are kept",
        )
    elif code == ExitCode.RESULTS_NOT_WRITTEN and "://" not in word.where and _NOT_WRITABLE.search(word.reason):
        remedy = _NO_RIGHT
    elif code == ExitCode.RESULTS_NOT_WRITTEN and "://" in word.reason and _NO_CREDENTIALS.search(word.reason):
        cause = "storage-not-permitted"
        remedy = (
            "keep the storage's credentials in a Secret, and name it in spec.job.secretEnvFrom: [{name: ...}] (or use a service account with "
            "a cloud identity); they must allow to list and write there; finished rows are kept; then submit again"
        )
    elif code == ExitCode.GPU_FAULT and _INVISIBLE.search(word.reason):
        cause = "gpus-not-visible"
        remedy = (
            "the pod has the GPU resource, but its container does not see as many GPUs: set spec.job.runtimeClassName: nvidia where the "
            "cluster asks for it, or ask an admin about the device plugin and the container toolkit of that node"
        )
    elif xid:
        number = int(xid[1])
        meaning = f"Xid {number}{f', {_XIDS[number]}' if number in _XIDS else ''}"
        sentence = f"{sentence} ({meaning})"
        if number in _XIDS:
            remedy = "ask an admin to take the node out and reset or replace the GPU; the shard is tried again, best elsewhere"
    elif word.remedy:
        remedy = word.remedy
    mood: Mood = "waiting" if code == ExitCode.STOPPED else "problem"
    return Finding(cause=cause, sentence=sentence, remedy=remedy, evidence=line, since=since, mood=mood)


def _shortened(text: str) -> str:
    return text if len(text) <= _ERROR_CHARS else f"{text[: _ERROR_CHARS - 1]}…"
