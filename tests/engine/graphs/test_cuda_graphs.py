"""Steps and their captures. What a GPU adds is in gpu/test_engine.py."""

import torch

from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.lanes import Lane

LANE = Lane(torch.device("cpu"))


def test_on_a_cpu_a_step_runs_each_time_and_nothing_is_captured():
    graphs, runs = CudaGraphRunner([LANE]), []
    for _ in range(3):
        graphs.run("step", lambda capture: runs.append(type(capture)), LANE)
    graphs.run("other", lambda capture: runs.append(type(capture)), LANE)
    assert runs == [Capture] * 4
    assert len(graphs) == 0


def test_steps_run_without_autograd():
    seen = []
    CudaGraphRunner([LANE]).run("step", lambda _: seen.append(torch.is_inference_mode_enabled()), LANE)
    assert seen == [True]


def test_a_step_that_fails_may_be_tried_again():
    graphs, runs = CudaGraphRunner([LANE]), []

    def step(capture):
        runs.append(capture)
        if len(runs) == 1:
            raise torch.OutOfMemoryError

    for _ in range(2):
        try:
            graphs.run("step", step, LANE)
        except torch.OutOfMemoryError:
            continue
    assert len(runs) == 2


def test_what_is_there_already_does_not_move():
    tensors = torch.ones(2), torch.zeros(3)
    assert all(moved is tensor for moved, tensor in zip(Capture(LANE).to_lane(LANE, *tensors), tensors, strict=True))
