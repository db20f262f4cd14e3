"""Fixtures of the runner's tests: the tiny pair on the disk, and jobs that run it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from specbatch.api import SpecBatchJob, parse_spec
from specbatch.runner import devices
from specbatch.runner.display import JsonDisplay
from specbatch.runner.job import run_job
from tests.runner.tiny import byte_level_tokenizer, save_model, spec_text, write_rows


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # tiny tensors: threads only wait for each other


@pytest.fixture(scope="session", autouse=True)
def _cpu_measured_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "measured_cpu", cache(devices.measured_cpu))  # a third of a second each time
        yield


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_level_tokenizer()


@pytest.fixture(scope="session")
def pair(tmp_path_factory, tokenizer) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    return (
        save_model(folder / "target", tokenizer, layers=2, seed=1),
        save_model(folder / "drafter", tokenizer, layers=1, seed=2),
    )


@pytest.fixture
def make_job(tmp_path, pair) -> Callable[..., SpecBatchJob]:
    """make_job(rows or a path, "path=value", ...) -> a job that runs the tiny pair; results under tmp_path/results/tiny."""

    def make(rows: list[Any] | Path, *overrides: str) -> SpecBatchJob:
        uri = rows if isinstance(rows, Path) else write_rows(tmp_path / "rows.jsonl", rows)
        return parse_spec(spec_text(pair, uri, tmp_path / "results"), "test", overrides)

    return make


@pytest.fixture
def display_lines() -> Callable[[SpecBatchJob], list[dict[str, Any]]]:
    """display_lines(job) -> the JSON lines that a run of it shows."""

    def run(job: SpecBatchJob) -> list[dict[str, Any]]:
        stream = io.StringIO()
        run_job(job, display=JsonDisplay(stream))
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return run
