"""The processes that vLLM starts beside a run's own: none ends unseen, and none outlives the run."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Collection
from multiprocessing.connection import wait
from threading import Thread
from typing import Any

_ENDING = "import signal, sys; sys.stdin.read(); [signal.pidfd_send_signal(int(one), 9) for one in sys.argv[1:]]"


def watch(loops: Collection[Any]) -> None:
    """Wakes vLLM's engines where one of the processes is killed, and ends the processes where this one is.

    A step that waits for a killed process would wait for ever (vLLM 0.32). A process does not see a kill -9 of this one, and would
    hold its GPUs: another one waits for that, and ends them.

    Args:
        loops: vLLM's engines.
    """
    children = multiprocessing.active_children()
    if not children:
        return
    ends = [child.sentinel for child in children]
    queues = [loop.engine_core.outputs_queue for loop in loops if hasattr(loop.engine_core, "outputs_queue")]

    def wake() -> None:
        wait(ends)
        for outputs in queues:
            outputs.put(RuntimeError("one of its processes has ended"))

    Thread(target=wake, name="vllm-watch", daemon=True).start()
    handles = [os.pidfd_open(child.pid) for child in children if child.pid is not None]
    command = [sys.executable, "-c", _ENDING, *map(str, handles)]
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    subprocess.Popen(command, stdin=pipe, stderr=null, pass_fds=handles, start_new_session=True)  # noqa: S603 - our own words
    for handle in handles:
        os.close(handle)
