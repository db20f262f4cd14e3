"""Processes of specbatch at a twentieth of the price: each is forked from one that has everything imported.

A start of `specbatch run` costs four seconds of imports, so a test of a thousand kills would take hours. This process imports
torch, transformers and the runner once, runs one throw-away job, which warms their caches, and then forks an attempt for each line
that it is given, or a process of `specbatch` or `python -m specbatch.runner`. It has one thread whenever it forks (checked): nothing that another thread held can stay locked in the child.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass
class Attempt:
    """A process. Until `wait` has seen its end nobody reaps it: the pid is no other's."""

    zygote: Zygote
    pid: int
    log: Path
    error_log: Path | None = None  # where standard error does not go into the log
    started: float = field(default_factory=time.monotonic)
    _code: int | None = None

    def __post_init__(self):
        self._pidfd = os.pidfd_open(self.pid)

    def signal(self, number: int) -> None:
        """Sends a signal; nothing happens where the process has ended."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def ended(self, within: float = 0.0) -> bool:
        """Waits so many seconds at most; whether the process has ended."""
        return self._code is not None or bool(select.select([self._pidfd], [], [], max(0.0, within))[0])

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        return self.wait() if self.ended() else None

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)

    def wait(self, within: float = 60.0) -> int:
        """The exit code, negative for the signal that ended it; a process that hangs is killed, and fails the test."""
        if self._code is None:
            hangs = not self.ended(within)
            if hangs:
                self.signal(signal.SIGKILL)
            self._code = self.zygote.ask({"reap": self.pid})["code"]
            os.close(self._pidfd)
            assert not hangs, f"no end within {within} s:\n{self.output}"
        return self._code

    def kill_after(self, seconds: float) -> int:
        """kill -9 so many seconds after the start; -9, or the exit code where the process was faster."""
        self.ended(self.started + seconds - time.monotonic())
        self.signal(signal.SIGKILL)
        return self.wait()

    @property
    def output(self) -> str:
        """What it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def errors(self) -> str:
        """What it has printed to standard error, where that is apart."""
        return self.error_log.read_text(encoding="utf-8", errors="replace") if self.error_log else ""


class Zygote:
    """Starts attempts. Models for them are in `pair`: target, drafter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pair = (folder / "target", folder / "drafter")
        self._attempts = 0
        self._asking = threading.Lock()
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "TOKENIZERS_PARALLELISM": "false",
            "TQDM_DISABLE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
        )
        self._answer()

    def start(self, spec: Path, setup: dict[str, Any] | None = None) -> Attempt:
        """Begins an attempt at a spec file; `setup` says what is to go wrong in it (child.py)."""
        self._attempts += 1
        log = self.folder / f"log-{self._attempts}.txt"
        return Attempt(self, self.ask({"spec": str(spec), "log": str(log), "setup": setup or {}})["pid"], log)

    def run(self, spec: Path, setup: dict[str, Any] | None = None) -> Attempt:
        """An attempt that has ended."""
        attempt = self.start(spec, setup)
        attempt.wait()
        return attempt

    def process(
        self, module: str, *words: str, cwd: Path | None = None, log: Path | None = None, **env: str
    ) -> Attempt:
        """Begins `python -m MODULE WORDS`, of `specbatch` or `specbatch.runner`, in this process' environment with `env` on top.

        Args:
            module: which of the two.
            words: its arguments.
            cwd: its working directory; ours without it.
            log: where all output goes; without it standard error has a file of its own.
            env: variables.
        """
        self._attempts += 1
        out = log or self.folder / f"log-{self._attempts}.txt"
        err = None if log else self.folder / f"log-{self._attempts}-errors.txt"
        request = {"module": module, "words": list(map(str, words)), "cwd": str(cwd or Path.cwd())}
        request |= {"env": {**os.environ, "OMP_NUM_THREADS": "1", **env}, "log": str(out), "errors": str(err or out)}
        for file in (out, err or out):
            file.touch()  # whoever reads it may be faster than the process
        return Attempt(self, self.ask(request)["pid"], out, err)

    def close(self) -> None:
        """Ends the process; attempts that run still are killed."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._asking:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"the zygote has died with {self._process.returncode}")
        return json.loads(line)


def _serve(folder: Path) -> None:
    """The process: one answer a line, until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    _warm_up(folder)
    gc.collect()
    gc.freeze()
    gc.freeze = gc.unfreeze = lambda: None  # as in conftest.py
    running: set[int] = set()
    answers.write("{}\n")
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "reap" in request:
            _, status = os.waitpid(request["reap"], 0)
            running.discard(request["reap"])
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            threads = len(list(Path("/proc/self/task").iterdir()))
            assert threads == 1, f"{threads} threads: a fork would not be sound"
            pid = os.fork()
            if pid == 0:
                _attempt(request)
            running.add(pid)
            answer = {"pid": pid}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _warm_up(folder: Path) -> None:
    """Makes the pair, measures the CPU once for all attempts (a third of a second each otherwise), and runs it once."""
    from tqdm import tqdm

    from specbatch.cli.main import main as specbatch
    from specbatch.runner import devices, session
    from specbatch.runner.__main__ import main
    from tests.runner.tiny import byte_level_tokenizer, save_model, spec_text, write_rows

    with contextlib.suppress(ImportError):
        import s3fs  # noqa: F401 - for attempts that publish

    tqdm.monitor_interval = 0  # no thread of its own
    pair = (folder / "target", folder / "drafter")
    maker = os.fork()  # saving a model starts threads that stay
    if maker == 0:
        tokenizer = byte_level_tokenizer()
        for path, layers, seed in ((pair[0], 2, 1), (pair[1], 1, 2)):
            save_model(path, tokenizer, layers=layers, seed=seed)
        os._exit(0)
    assert os.waitpid(maker, 0)[1] == 0
    measured = devices.measured_cpu()
    devices.measured_cpu = lambda: measured
    assert session
    assert specbatch
    rows = write_rows(folder / "warm.jsonl", [{"prompt": "hello", "temperature": 0.5}])
    spec = folder / "warm.yaml"
    spec.write_text(spec_text(pair, rows, folder / "warm").replace("report: false", "report: true"))
    assert main([str(spec)]) == 0


def _attempt(request: dict[str, Any]) -> None:
    """The forked process: what `python -m MODULE` does, or an attempt with whatever is to go wrong."""
    code = 70
    try:
        with (
            Path(request["log"]).open("ab", buffering=0) as log,
            Path(request.get("errors", request["log"])).open("ab", buffering=0) as errors,
            Path("/dev/null").open("rb") as nothing,
        ):
            os.dup2(nothing.fileno(), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(errors.fileno(), 2)
        from specbatch.runner import __main__ as runner

        if "module" in request:
            from specbatch.cli.main import main as specbatch

            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["env"])
            code = int({"specbatch": specbatch, "specbatch.runner": runner.main}[request["module"]](request["words"]))
        else:
            from tests.faults.child import prepare

            finish = prepare(request["setup"])
            code = int(runner.main([request["spec"]]))
            finish()
    except BaseException:  # noqa: BLE001 - what a real process would end with
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
