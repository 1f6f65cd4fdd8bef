"""Signals as a queue."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from veredus.server.process.signals import SignalQueue


@pytest.fixture
def queue() -> Iterator[SignalQueue]:
    queue = SignalQueue(signal.SIGUSR1, signal.SIGUSR2)
    before = signal.getsignal(signal.SIGUSR1)
    queue.open()
    yield queue
    queue.close()
    assert signal.getsignal(signal.SIGUSR1) == before


def test_signals_wait_in_order_of_arrival(queue: SignalQueue) -> None:
    assert queue.read() == []
    signal.raise_signal(signal.SIGUSR2)
    signal.raise_signal(signal.SIGUSR1)
    assert select.select([queue], [], [], 0)[0], "a loop that waits is woken"
    assert queue.read() == [signal.SIGUSR2, signal.SIGUSR1]
    assert queue.read() == []


def test_what_is_held_back_comes_afterwards(queue: SignalQueue) -> None:
    with queue.held_back():
        signal.raise_signal(signal.SIGUSR1)
        assert queue.read() == []
    assert queue.read() == [signal.SIGUSR1]


def test_a_child_that_left_does_not_write_into_its_parents_queue(queue: SignalQueue) -> None:
    with queue.held_back():
        pid = os.fork()
        if pid == 0:
            queue.leave()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            signal.raise_signal(signal.SIGUSR1)  # whose default action ends it
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGUSR1
    assert queue.read() == []
