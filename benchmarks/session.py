"""Many measurements within a short session on rented GPUs: each GPU is kept busy, and what was printed stays if the session is cut off.

    python -m benchmarks.session --list                       what there is (session.toml), how long it takes, the bar it is held to
    python -m benchmarks.session --seconds 560 --out OUT options fp8

Each part is a process of its own, on a GPU that no other part uses. A part is not begun where its time is longer than what is left, and is
ended with all its processes when its time is up. Its output goes to OUT/NAME.log as it is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

PARTS = Path(__file__).with_name("session.toml")
_LOOK = 0.2  # seconds between looks at what runs
_TAIL = 14  # lines of a part that are shown when it ends


@dataclass(frozen=True, slots=True)
class Part:
    """A command of session.toml.

    seconds: after which it is ended
    gpus: that it sees
    bar: what its figures are held to
    """

    name: str
    command: str
    seconds: float
    gpus: int = 1
    bar: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A part on its way."""

    part: Part
    process: subprocess.Popen[bytes]
    gpus: tuple[str, ...]
    began: float


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the parts that are named, or all; 1 where one failed, was ended by the clock or was not begun."""
    parts = {part.name: part for part in read_parts(PARTS)}
    asked = _arguments(list(parts), argv)
    chosen = [parts[name] for name in asked.parts or parts]
    if asked.list:
        print(
            *(f"{one.name:14} {one.gpus} GPU, {one.seconds:.0f} s: {one.command}\n    {one.bar}" for one in chosen),
            sep="\n",
        )
        return 0
    asked.out.mkdir(parents=True, exist_ok=True)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    results = run(chosen, visible.split(",") if visible else [], asked.seconds, asked.out)
    return max([_show(*result, asked.out) for result in results], default=0)


def read_parts(path: Path) -> list[Part]:
    """The parts of a file, in its order."""
    return [Part(name, **fields) for name, fields in tomllib.loads(path.read_text()).items()]


def run(parts: Sequence[Part], gpus: Sequence[str], seconds: float, out: Path) -> Iterator[tuple[Part, str, float]]:
    """Runs parts, the first that fits first; gives each as it ends, with how it ended and its seconds.

    Args:
        parts: the more important ones first.
        gpus: as CUDA_VISIBLE_DEVICES names them; a part with 0 GPUs waits for none.
        seconds: after which nothing runs.
        out: folder of the logs.
    """
    end = time.monotonic() + seconds
    waiting, free, running = list(parts), list(gpus), list[Running]()
    try:
        while waiting or running:
            for part in list(waiting):
                left = end - time.monotonic()
                if part.gpus > len(gpus) or part.seconds > left:
                    waiting.remove(part)
                    here = f"{len(gpus)} are here" if part.gpus > len(gpus) else f"{left:.0f} s are left"
                    yield part, f"not begun, of {part.gpus} GPUs and {part.seconds:.0f} s: {here}", 0.0
                elif part.gpus <= len(free):
                    waiting.remove(part)
                    mine, free = free[: part.gpus], free[part.gpus :]
                    running.append(_begin(part, mine, out))
            for one in list(running):
                took, ended = time.monotonic() - one.began, one.process.poll()
                if ended is not None or took >= one.part.seconds:
                    running.remove(one)
                    _end(one)
                    free.extend(one.gpus)
                    yield one.part, "ended by the clock" if ended is None else f"exit code {ended}", took
            time.sleep(_LOOK if running else 0)
    finally:
        for one in running:
            _end(one)


def _begin(part: Part, gpus: Sequence[str], out: Path) -> Running:
    with (out / f"{part.name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # the file's own commands
            [sys.executable, *shlex.split(part.command)[1:]],
            env={**os.environ, "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ",".join(gpus)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the processes of a part end with it
        )
    return Running(part, process, tuple(gpus), time.monotonic())


def _end(one: Running) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(one.process.pid, signal.SIGKILL)
    one.process.wait()


def _show(part: Part, how: str, seconds: float, out: Path) -> int:
    log = out / f"{part.name}.log"
    tail = log.read_text(errors="replace").splitlines()[-_TAIL:] if seconds else []
    print(f"== {part.name}: {how}, {seconds:.0f} s; bar: {part.bar or 'none'}", *tail, sep="\n", flush=True)
    return int(how != "exit code 0")


def _arguments(names: Sequence[str], argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seconds", type=float, default=570, help="of the session, from now on")
    parser.add_argument("--out", type=Path, default=Path("results/session"), help="folder of the logs")
    asked = parser.parse_args(argv)
    if unknown := set(asked.parts) - set(names):
        parser.error(f"no part {', '.join(sorted(unknown))} in {PARTS.name}: one of {', '.join(names)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
