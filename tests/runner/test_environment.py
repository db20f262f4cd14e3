import os
import subprocess
import sys

import pytest

from specbatch.runner.environment import available_cores, prepare_environment


def test_threads_of_the_spec_win_and_those_of_the_user_come_next():
    environ = {"OMP_NUM_THREADS": "3"}
    assert prepare_environment(environ, 5) == 5
    assert environ["OMP_NUM_THREADS"] == "5"
    assert prepare_environment({"OMP_NUM_THREADS": "3"}, "auto") == 3
    assert prepare_environment({"OMP_NUM_THREADS": "junk"}, "auto") == available_cores()


def test_waiting_threads_do_not_spin_and_what_the_user_has_set_stays():
    environ = {"TRANSFORMERS_VERBOSITY": "debug"}
    prepare_environment(environ, 1)
    assert environ["OMP_WAIT_POLICY"].lower() == "passive"
    assert environ["TRANSFORMERS_VERBOSITY"] == "debug"


def test_libraries_show_their_bars_only_where_somebody_watches():
    watched, unwatched = {}, {}
    prepare_environment(watched, 1, terminal=True)
    prepare_environment(unwatched, 1)
    assert "TQDM_DISABLE" not in watched
    assert unwatched["TQDM_DISABLE"] == "1"


def test_hyperthreads_of_a_core_count_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for cpu in range(4):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    assert available_cores(tmp_path) == 2


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_quota_of_the_container_bounds_the_cores(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cores(tmp_path) == cores


@pytest.mark.slow
def test_importing_the_job_imports_no_torch():
    code = "import sys, specbatch.runner.job, specbatch.runner.display; print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
