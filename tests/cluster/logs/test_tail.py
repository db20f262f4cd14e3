"""No line of a pod's log is lost, and none is told twice: whatever connections do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specbatch.cluster.logs.tail import Line, LogTail
from specbatch.errors import ClusterError
from tests.cluster.kubelet import Kubelet, stamp

WRITTEN = [
    (stamp(1, 5), "loading"),
    (stamp(1, 5), "loading"),  # twice at the same time, and both are lines
    (stamp(1, 7), ""),
    (stamp(2, 3), "from stderr"),
    (stamp(2, 2), "from stdout, written before"),
    (stamp(2, 9), "größer"),
    (stamp(9), "the last"),
]
LATER = [(stamp(9), "the last"), (stamp(9, 1), "later"), (stamp(30), "latest")]


def read(tail, *, ended=False, tries=50):
    """What a catch-up brings, however often it takes."""
    told = []
    for _ in range(tries):
        try:
            told.extend((line.stamp, line.text) for line in tail.catch_up(ended=ended))
        except ClusterError:
            continue
        return told
    raise AssertionError("never read to the end")


def follow(tail, times):
    return [(line.stamp, line.text) for _ in range(times) for line in tail.follow()]


@pytest.mark.parametrize("clean", [False, True])
def test_a_connection_cut_at_any_byte_loses_and_doubles_nothing(clean):
    size = len("".join(f"{at} {text}\n" for at, text in WRITTEN).encode())
    for cut in range(size + 1):
        tail = LogTail(Kubelet(WRITTEN, cuts=[cut], clean=clean), "pod")
        assert read(tail) + read(tail) == WRITTEN, cut


@pytest.mark.parametrize("clean", [False, True])
def test_a_followed_log_cut_at_any_byte_loses_and_doubles_nothing(clean):
    size = len("".join(f"{at} {text}\n" for at, text in [*WRITTEN, *LATER]).encode())
    for cut in range(size + 1):
        kubelet = Kubelet(WRITTEN, clean=clean)
        tail = LogTail(kubelet, "pod")
        told = read(tail)
        kubelet.cuts, kubelet.arrives = [cut, cut], list(LATER)
        told += follow(tail, 3)
        assert told + read(tail) == WRITTEN + LATER, cut


@settings(max_examples=60)
@given(
    cuts=st.lists(st.integers(0, 200), max_size=12),
    gaps=st.lists(st.sampled_from([0, 0, 1, 300_000_000, 1_500_000_000, 4_000_000_000]), max_size=12),
    clean=st.booleans(),
)
def test_any_log_over_any_connections_is_told_once(cuts, gaps, clean):
    at, written = 0, []
    for number, gap in enumerate(gaps):
        at += gap
        written.append((stamp(at // 10**9, at % 10**9), f"line {number // 2}"))
    kubelet = Kubelet(written[: len(written) // 2], cuts=cuts, clean=clean)
    tail = LogTail(kubelet, "pod")
    told = read(tail)
    kubelet.arrives = written[len(written) // 2 :]
    told += follow(tail, 13)
    assert told + read(tail, ended=True) == written


def test_after_a_rotation_what_is_new_is_told_and_nothing_again():
    kubelet = Kubelet(WRITTEN)
    tail = LogTail(kubelet, "pod")
    assert read(tail) == WRITTEN
    kubelet.rotate()
    assert read(tail) == []
    kubelet.written += LATER[1:]
    assert read(tail) == LATER[1:]
    kubelet.rotate()
    kubelet.arrives = [(stamp(30), "latest, again")]
    assert follow(tail, 2) == [(stamp(30), "latest, again")]


def test_the_last_lines_are_those_that_are_asked_for_and_all_that_come_later():
    for cut in [None, *range(0, 60, 7)]:
        kubelet = Kubelet(WRITTEN, cuts=[cut] if cut is not None else [])
        tail = LogTail(kubelet, "pod", tail=2)
        told = read(tail)
        kubelet.arrives = list(LATER)
        assert told + follow(tail, 2) == [*WRITTEN[-2:], *LATER], cut


def test_no_last_lines_means_only_what_comes_later():
    kubelet = Kubelet(WRITTEN)
    tail = LogTail(kubelet, "pod", tail=0)
    assert read(tail) == []
    kubelet.written += LATER
    assert read(tail) + read(tail) == LATER
    empty = Kubelet([])
    tail = LogTail(empty, "pod", tail=0)
    assert read(tail) == []
    empty.written += WRITTEN
    assert read(tail) == WRITTEN


def test_lines_from_a_time_on_are_asked_for_and_resumed_behind_it():
    kubelet = Kubelet(WRITTEN)
    tail = LogTail(kubelet, "pod", since=stamp(2))
    assert read(tail) + read(tail) == WRITTEN[3:]
    assert kubelet.asked[0]["since"] == stamp(2)
    assert kubelet.asked[1]["since"] == "2026-01-01T00:00:08Z"


def test_a_line_without_an_end_counts_when_nothing_more_is_written():
    kubelet = Kubelet(WRITTEN, end="")
    tail = LogTail(kubelet, "pod")
    assert read(tail) == WRITTEN[:-1]
    assert follow(tail, 1) == []
    assert read(tail, ended=True) == WRITTEN[-1:]


def test_what_kubernetes_says_in_place_of_a_log_is_told_once():
    class Broken:
        def log(self, pod, **options):
            yield "unable to retrieve container logs for containerd://abc"

    tail = LogTail(Broken(), "pod")
    assert [*tail.catch_up(), *tail.catch_up(), *tail.follow()] == [
        Line("", "unable to retrieve container logs for containerd://abc")
    ]


@pytest.mark.slow
def test_little_is_remembered_of_a_long_log():
    tail = LogTail(Kubelet([(stamp(number // 1000, number % 1000), f"{number}") for number in range(50_000)]), "pod")
    assert len(read(tail)) == 50_000
    assert len(tail._recent) <= 2000
