"""The console blocks of docs/GPU_DEPLOYMENT.md and its Chinese twin: what `specbatch plan` really prints.

Every block that starts with "$ ... specbatch plan ..." is run again and its output replaced. Nothing of this machine gets in:
no hub cache, no GPU, no environment but the variables that stand before the command.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from unittest import mock

from typer.testing import CliRunner

from specbatch.cli.main import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("docs/GPU_DEPLOYMENT.md", "docs/GPU_DEPLOYMENT.zh-CN.md")

_BLOCK = re.compile(r"```console\n\$ ([^\n]*specbatch plan[^\n]*)\n.*?```", re.DOTALL)


def filled(document: str, root: Path = ROOT) -> str:
    """A document's text with every block's output made anew."""
    text = (root / document).read_text(encoding="utf-8")
    return _BLOCK.sub(lambda block: f"```console\n$ {block[1]}\n{output_of(block[1], root)}```", text)


def output_of(command: str, root: Path = ROOT) -> str:
    """What a command such as `GPU_STRATEGY=same specbatch plan job/qwen3-8b.yaml` prints, run in the repository's root."""
    words = shlex.split(command)
    start = words.index("specbatch")
    env = dict(word.split("=", 1) for word in words[:start])
    arguments = [str(root / word) if word.startswith("job/") else word for word in words[start + 1 :]]
    with mock.patch.dict(os.environ, {"HF_HUB_CACHE": "/nonexistent", **env}, clear=True):
        done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output
