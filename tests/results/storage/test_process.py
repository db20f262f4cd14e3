import os
import subprocess
import sys

import msgspec
import pytest

from specbatch.results.storage.process import Process

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")  # noqa: PTH110
SAY = "import msgspec; from specbatch.results.storage.process import Process; print(msgspec.json.encode(Process.current()).decode(), flush=True)"


def test_this_process_lives():
    assert Process.current().alive is True
    assert msgspec.json.decode(msgspec.json.encode(Process.current()), type=Process) == Process.current()


def test_a_process_lives_until_it_is_killed_even_while_nobody_has_waited_for_it():
    with subprocess.Popen(
        [sys.executable, "-c", f"{SAY}\ninput()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        process = msgspec.json.decode(child.stdout.readline(), type=Process)
        assert process.pid == child.pid
        assert process.alive is True
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.alive is False  # a zombie
    assert process.alive is False


def test_another_process_by_the_same_number_is_not_it():
    mine = Process.current()
    later = Process(host=mine.host, pid=mine.pid, space=mine.space, started="1")
    assert later.alive is False


def test_of_another_machine_or_container_nothing_is_said():
    mine = Process.current()
    assert Process(host="elsewhere", pid=mine.pid, space="another boot", started=mine.started).alive is None
    assert Process(host=mine.host, pid=mine.pid).alive is None
