"""Signals that ask for the end: one is noted, and what a second one does."""

import os
import signal
from threading import Thread

import pytest

from alexnet.training.interruption import Interruption


@pytest.fixture
def interruption():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which whoever runs the tests may ignore
    asked = Interruption()
    with asked.watched():
        yield asked
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_is_noted(interruption, number):
    os.kill(os.getpid(), number)
    assert interruption.signal_number == number


def test_sigterm_twice_is_once(interruption):
    """As a whole group is sent it, and torchrun passes its own on."""
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.signal_number == signal.SIGTERM


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_one_ends_at_once_if_either_is_ctrl_c(interruption, first, second):
    os.kill(os.getpid(), first)
    if signal.SIGINT in (first, second):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
    else:
        os.kill(os.getpid(), second)


def test_who_wants_a_closed_terminal_ignored_keeps_it_so():
    """As `nohup` does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        asked = Interruption()
        with asked.watched():
            os.kill(os.getpid(), signal.SIGHUP)
        assert asked.signal_number == 0 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_than_the_first_nothing_is_taken():
    """Python would refuse it; a notebook's server may run a training there."""
    found = []

    def watched():
        with Interruption().watched():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = Thread(target=watched)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
