"""Steps and their recordings. What a GPU adds is in test_on_gpu.py."""

import torch

from specbatch.engine.gpu.graphs import GraphBook, Recorder

CPU = torch.device("cpu")


def test_on_a_cpu_a_step_runs_each_time_and_nothing_is_recorded():
    book, runs = GraphBook(CPU), []
    for _ in range(3):
        book.run("step", lambda recorder: runs.append(type(recorder)))
    book.run("other", lambda recorder: runs.append(type(recorder)))
    assert runs == [Recorder] * 4
    assert len(book) == 0


def test_steps_run_without_autograd():
    seen = []
    GraphBook(CPU).run("step", lambda _: seen.append(torch.is_inference_mode_enabled()))
    assert seen == [True]


def test_a_step_that_fails_may_be_tried_again():
    book, runs = GraphBook(CPU), []

    def step(recorder):
        runs.append(recorder)
        if len(runs) == 1:
            raise torch.OutOfMemoryError

    for _ in range(2):
        try:
            book.run("step", step)
        except torch.OutOfMemoryError:
            continue
    assert len(runs) == 2


def test_what_is_there_already_does_not_move():
    tensors = torch.ones(2), torch.zeros(3)
    assert all(moved is tensor for moved, tensor in zip(Recorder().hop(CPU, *tensors), tensors, strict=True))
