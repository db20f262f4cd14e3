"""Environment variables that must be set before torch and transformers are imported: threads, quiet libraries."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Literal

# Read by one decoding step: a model below this is done sooner by one thread than several have been woken (the embedded
# pair of 13 MB runs three times as fast on one of two cores, SmolLM2 of 540 MB is faster on both).
SMALL_STEP_BYTES = 64 << 20
THREADS = "OMP_NUM_THREADS"
_DEFAULTS = {
    # Threads that spin while they wait make two busy cores crawl.
    "OMP_WAIT_POLICY": "passive",
    "KMP_BLOCKTIME": "0",
    # One thread tokenises, row by row; a pool of its own would only fight the engine for cores.
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_WITHOUT_TERMINAL = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}


def prepare_environment(
    environ: MutableMapping[str, str], cpu_threads: int | Literal["auto"], *, terminal: bool = False
) -> int:
    """Sets what libraries read once, when imported; what the user has set stays.

    Args:
        environ: os.environ.
        cpu_threads: `placement.cpuThreads`.
        terminal: whether somebody watches, to whom the libraries may show the progress of a download or a conversion.

    Returns:
        The number of CPU threads for torch.
    """
    for name, value in (_DEFAULTS if terminal else _DEFAULTS | _WITHOUT_TERMINAL).items():
        environ.setdefault(name, value)
    if cpu_threads != "auto":
        environ[THREADS] = str(cpu_threads)
        return cpu_threads
    chosen = environ.get(THREADS, "")
    threads = int(chosen) if chosen.isdecimal() and int(chosen) > 0 else available_cores()
    environ[THREADS] = str(threads)
    return threads


def available_cores(root: Path = Path("/")) -> int:
    """The physical cores this process may use: by affinity, and by the CPU quota of its container; at least 1."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core(root, cpu) for cpu in allowed}
    quota = _cpu_quota(root)
    return max(1, min(len(cores), int(quota) if quota is not None else len(cores)))


def _core(root: Path, cpu: int) -> str:
    """A name that the hyperthreads of one core share."""
    return _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or f"cpu{cpu}"


def _cpu_quota(root: Path) -> float | None:
    """CPUs that the container may use (cgroup v2, then v1), or None where there is no limit."""
    words = _text(root / "sys/fs/cgroup/cpu.max").split()
    if len(words) != 2:
        folder = root / "sys/fs/cgroup/cpu"
        words = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
    quota, period = words
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
