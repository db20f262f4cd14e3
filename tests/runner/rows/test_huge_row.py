"""A row of 16 MB, the longest line there is, in a process of its own: refused soon, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_MEGABYTES = 600
_SECONDS = 2.0
_PROGRAM = """
import json, os, sys, time
from specbatch.api import DecodingSpec
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.row import BadRow
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import CHAT_TEMPLATE, byte_level_tokenizer, row_rules

def resident(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) >> 10

encoder = PromptEncoder(byte_level_tokenizer(), template=CHAT_TEMPLATE, max_length=4096)
encoder.encode(RowReader(row_rules(DecodingSpec(max_new_tokens=8))).read(RawRow(0, 1, b'{"prompt": "warm"}')))
size = 16 << 20

def refuse(parts):
    before, piece, after = (part.encode() for part in parts)
    line = before + piece * ((size - len(before) - len(after)) // len(piece)) + after
    assert size - len(piece) <= len(line) <= size
    idle = resident("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # the peak counts anew
    began = time.process_time()
    row = RowReader(row_rules(DecodingSpec(max_new_tokens=8))).read(RawRow(0, 1, line))
    try:
        code = row.code if isinstance(row, BadRow) else encoder.encode(row) and "fits"
        message = getattr(row, "message", "")
    except RowError as error:
        code, message = error.code, error.message
    print(json.dumps([str(code), len(message), time.process_time() - began, resident("VmHWM") - idle]), flush=True)

for parts in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        refuse(parts)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, parts
"""


ROWS = {
    "prompt": (['{"prompt": "', "hello ", '"}'], "prompt_too_long"),
    "wide prompt": (['{"prompt": "\\ud83d\\ude00', "x ", '"}'], "prompt_too_long"),  # four bytes a character in memory
    "message": (['{"messages": [{"role": "user", "content": "', "hello ", '"}]}'], "prompt_too_long"),
    "completion": (['{"custom_id": "a", "body": {"prompt": "', "\\ud83d\\ude00", '"}}'], "prompt_too_long"),
    "parts": (['{"messages": [{"role": "user", "content": [', '{"type": "text", "text": "x"},', '""]}]}'], "prompt_too_long"),
    "column": (['{"prompt": 5, "text": "', "x", '"}'], "invalid_field"),
    "option": (['{"prompt": "x", "temperature": "', "x", '"}'], "invalid_field"),
    "messages": (['{"messages": [', '{"role": "user", "content": ""},', '{"role": "user", "content": "x"}]}'], "prompt_too_long"),
    "lists": (['{"messages": [{"role": [', "[],", '[]], "content": "x"}]}'], "invalid_field"),
}  # fmt: skip


@pytest.fixture(scope="module")
def measured():
    """What became of each row, each in a process forked from one that has all imports."""
    parts = json.dumps([parts for parts, _ in ROWS.values()])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, parts], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(ROWS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_16_mb_is_refused_within_2_s_and_600_mb(name, measured):
    found, characters, seconds, megabytes = measured[name]
    assert found == ROWS[name][1]
    assert characters < 300
    assert seconds < _SECONDS
    assert megabytes < _MEGABYTES
