"""vLLM's step loop as an engine of ours, over a stand-in for vLLM."""

from types import SimpleNamespace

import pytest
import torch

from specbatch.engine.request import Request
from specbatch.errors import DeviceError, OutOfMemoryError
from specbatch.runner.vllm.engine import VllmEngine
from tests.runner.vllm.stand_in import StandIn, params_of


def rows(count, *, tokens=3, **options):
    return [Request(f"r{number}", [100 * number], tokens, **options) for number in range(count)]


def engine(loop, **options):
    return VllmEngine(loop, params_of, slots=loop.slots, **options)


def decoded(made, requests):
    return {completion.request.id: completion for completion in made.generate(requests)}


def test_every_row_ends_once_with_its_own_tokens():
    found = decoded(engine(StandIn()), rows(7))
    assert {name: list(one.token_ids) for name, one in found.items()} == {
        f"r{number}": [100 * number + 1, 100 * number + 2, 100 * number + 3] for number in range(7)
    }
    assert {one.finish_reason for one in found.values()} == {"length"}


def test_rows_are_drawn_as_slots_come_free_and_leave_as_they_end():
    loop, drawn = StandIn(slots=4), []

    def source():
        for request in rows(40, tokens=2):
            drawn.append(request)
            yield request

    completions = engine(loop).generate(source())
    next(completions)
    assert len(drawn) <= 10
    assert len(list(completions)) == 39
    assert loop.largest == 5  # one waits, so that no slot is empty for a step


def test_a_source_that_is_empty_for_now_is_asked_again():
    class Pauses:
        def __init__(self):
            self.left = iter([*rows(1), None, None, *rows(3)[1:]])

        def __iter__(self):
            return self

        def __next__(self):
            request = next(self.left)
            if request is None:
                raise StopIteration
            return request

    assert set(decoded(engine(StandIn()), Pauses())) == {"r0", "r1", "r2"}


def test_an_end_of_sequence_token_ends_a_row_and_is_one_of_its_tokens():
    [row] = decoded(engine(StandIn()), rows(1, tokens=9, eos_token_ids=frozenset({2}))).values()
    assert (list(row.token_ids), row.finish_reason) == ([1, 2], "stop")


@pytest.mark.parametrize("a_step", [1, 3])
def test_a_stop_check_ends_a_row_at_its_token_and_what_was_under_way_is_dropped(a_step):
    def stop(new):
        return new.index(5) + 1 if 5 in new else None

    loop = StandIn(a_step=a_step, slots=1)
    found = decoded(engine(loop), [Request("r", [0], 20, stop=stop), *rows(2)[1:]])
    assert (list(found["r"].token_ids), found["r"].finish_reason) == ([1, 2, 3, 4, 5], "stop")
    assert list(found["r1"].token_ids) == [101, 102, 103]
    assert not loop.rows


def test_a_row_that_vllm_refuses_is_that_rows_error_and_the_others_go_on():
    long = Request("long", list(range(200)), 3)
    found = decoded(engine(StandIn()), [long, *rows(3)])
    assert found["long"].finish_reason == "error"
    assert found["long"].error == "vLLM refuses the row: prompt (length 200) is longer than the maximum"
    assert len(found) == 4


def test_what_vllm_calls_the_clients_error_is_a_rows_too():
    class ClientError(Exception):
        pass

    class Refusing(StandIn):
        def add_request(self, name, *_, **__):
            raise ClientError(f"temperature must be in [0, 2] ({name})")

    sampling = engine(StandIn())._sampling
    made = VllmEngine(Refusing(), sampling, slots=4, refusals=(ValueError, ClientError))
    assert {row.error for row in decoded(made, rows(2)).values()} == {
        "vLLM refuses the row: temperature must be in [0, 2] (0)",
        "vLLM refuses the row: temperature must be in [0, 2] (1)",
    }
    with pytest.raises(DeviceError):
        decoded(VllmEngine(Refusing(), sampling, slots=4), rows(1))


def test_refused_rows_alone_end_too():
    found = decoded(engine(StandIn(most_tokens=0)), rows(9))
    assert len(found) == 9


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), OutOfMemoryError, "ran out of memory"),
        (
            RuntimeError("CUDA error: an illegal memory access"),
            DeviceError,
            "engine has died (RuntimeError: CUDA error",
        ),
    ],
)
def test_what_kills_the_engine_is_an_error_of_the_run_with_its_exit_code(error, kind, said):
    made = engine(StandIn(dies_at=2, error=error))
    with pytest.raises(kind) as caught:
        decoded(made, rows(5))
    assert said in caught.value.message
    assert made.stats.active == 0


def test_a_caller_that_stops_early_leaves_no_row_behind():
    loop = StandIn(slots=4)
    completions = engine(loop).generate(rows(9))
    next(completions)
    completions.close()
    assert not loop.rows


def test_drafts_are_counted_a_row_where_vllm_counts_them():
    metrics = SimpleNamespace(num_draft_tokens=6, per_step_drafted=[4, 2], per_step_accepted=[1, 0])
    made = engine(StandIn(metrics=metrics), k=4)
    [row] = decoded(made, rows(1)).values()
    assert (row.rounds, row.drafted, row.accepted, row.counts_speculation) == (2, 6, 1, True)
    assert made.stats.drafted_by_position == [2, 2, 1, 1]
    assert made.stats.accepted_by_position == [1, 0, 0, 0]
    assert made.stats.num_speculative_tokens == 4


def test_a_row_that_ends_at_a_stop_check_has_no_counts_rather_than_wrong_ones():
    made = engine(StandIn(), k=4)
    [row] = decoded(made, [Request("r", [0], 20, stop=lambda new: 1)]).values()
    assert not row.counts_speculation


def test_log_probabilities_are_the_tokens_own_and_the_likeliest_up_to_where_the_row_ends():
    asked = Request("r", [0], 9, stop=lambda new: new.index(2) + 1 if 2 in new else None, top_logprobs=2)
    found = decoded(engine(StandIn(a_step=3)), [asked, *rows(2)[1:]])
    assert [one.token for one in found["r"].logprobs] == [1, 2]
    assert found["r"].logprobs[0].logprob == -3.0
    assert found["r"].logprobs[0].top == [(11, -0.1), (12, -0.2)]
    assert found["r1"].logprobs is None


@pytest.mark.parametrize("stop", [None, lambda new: None])
def test_a_prompts_log_probabilities_come_once_whether_tokens_are_sent_as_they_come_or_at_the_end(stop):
    asked = Request("r", [5, 6, 7], 3, stop=stop, prompt_logprobs=2)
    found = decoded(engine(StandIn()), [asked, *rows(2)[1:]])
    assert [tuple(one) for one in found["r"].prompt_logprobs] == [
        (6, -8.0, [(11, -0.1), (12, -0.2)]),
        (7, -9.0, [(11, -0.1), (12, -0.2)]),
    ]
    assert found["r1"].prompt_logprobs is None


def test_what_is_wrong_within_a_step_is_no_rows_error():
    made = engine(StandIn(dies_at=2, error=ValueError("too many bad words")))
    with pytest.raises(DeviceError, match="has died"):
        decoded(made, rows(5))


def test_a_row_that_vllm_gives_up_is_an_error_row():
    made = engine(StandIn(gives_up="1"))
    found = decoded(made, rows(3))
    assert {name: one.finish_reason for name, one in found.items()} == {"r0": "length", "r1": "error", "r2": "length"}
    assert found["r1"].error == "vLLM gave the row up (abort)"


def test_rows_have_the_adapter_of_the_run():
    loop = StandIn()
    decoded(engine(loop, adapter="adapter"), rows(3))
    assert loop.adapters == ["adapter"] * 3


def test_counters_of_rows_and_tokens_add_up():
    made = engine(StandIn())
    decoded(made, [*rows(4), Request("long", list(range(200)), 3)])
    stats = made.stats
    assert (stats.finished, stats.failed, stats.emitted, stats.prompt_tokens, stats.active) == (4, 1, 12, 4, 0)
