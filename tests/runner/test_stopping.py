import os
import signal
import threading
import time

import pytest

from specbatch.errors import ModelError, StoppedError
from specbatch.runner.stopping import StopNow, StopSignals


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.05)  # the handler runs between two bytecodes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_rows_are_decoded_a_signal_stops_at_once(number):
    with pytest.raises(StoppedError, match=number.name) as caught, StopSignals():
        send(number)
    assert caught.value.exit_code == 75
    assert caught.value.remedy


def test_a_signal_in_the_moment_of_entering_stops_in_order_too(monkeypatch):
    before, install = signal.getsignal(signal.SIGTERM), signal.signal

    def install_and_be_told(number, handler):
        install(number, handler)
        if number is signal.SIGTERM and handler != before:
            send(signal.SIGTERM)

    monkeypatch.setattr(signal, "signal", install_and_be_told)
    with pytest.raises(StoppedError) as caught, StopSignals():
        pytest.fail("told to stop before")
    assert caught.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is before


def load_as_libraries_do():
    try:
        send(signal.SIGTERM)
    except Exception as error:
        raise ModelError("the tokenizer cannot be loaded") from error


def test_a_library_that_takes_every_exception_for_its_own_failure_does_not_take_this_one():
    with pytest.raises(StoppedError) as caught, StopSignals():
        load_as_libraries_do()
    assert caught.value.exit_code == 75  # 66 would fail the Kubernetes Job for good


@pytest.mark.slow
def test_while_rows_are_decoded_the_supply_ends_first_and_the_deadline_comes_later():
    ended = []
    with StopSignals(drain_seconds=0.3) as signals:
        signals.start_draining(lambda: ended.append(True))
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert ended == [True]
        assert signals.requested.is_set()
        with pytest.raises(StopNow):
            time.sleep(5)


def test_second_interrupt_does_not_wait():
    with StopSignals(drain_seconds=60) as signals:
        signals.start_draining(lambda: None)
        send(signal.SIGINT)
        with pytest.raises(StopNow):
            send(signal.SIGINT)


@pytest.mark.slow
def test_while_results_are_saved_signals_are_only_noted():
    with StopSignals(drain_seconds=0.3) as signals:
        signals.start_draining(lambda: None)
        send(signal.SIGTERM)
        signals.finish()
        send(signal.SIGINT)
        time.sleep(0.4)
        assert signals.requested.is_set()


def test_signal_that_came_during_loading_stops_before_the_first_row():
    with StopSignals() as signals:
        signals.requested.set()
        with pytest.raises(StoppedError):
            signals.start_draining(lambda: None)


def test_former_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    with StopSignals() as signals:
        assert signal.getsignal(signal.SIGTERM) != before[0]
        signals.finish()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)] == before


def test_outside_the_main_thread_it_does_nothing():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def enter():
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
