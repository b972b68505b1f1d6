"""Signals that ask for the end: one is noted, and what a second one does."""

import os
import signal

import pytest

from alexnet.training.interruption import Interruption


@pytest.fixture
def interruption():
    asked = Interruption()
    with asked.watched():
        yield asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
