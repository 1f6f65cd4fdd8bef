"""Deadlines of one worker, with times as arguments and a real process to receive the signals."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from veredus.server.process.child import Child, how_it_ended
from veredus.server.process.contract import ProcessLimits
from veredus.server.process.heartbeat import Heartbeat, Pulse

LIMITS = ProcessLimits(boot_seconds=60, hang_seconds=15, abort_seconds=2)


class Worker:
    """`sleep` in the role of a worker."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "600"])
        reader, self.writer = os.pipe()
        self.heartbeat = Heartbeat(self.writer)
        self.child = Child(self.process.pid, 0, 0, Pulse(reader), now=100.0)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.process.kill()
    worker.process.wait()
    worker.child.pulse.close()
    os.close(worker.writer)


def ready(worker: Worker, now: float) -> None:
    worker.heartbeat.ready()
    worker.child.take(now)


def test_booting_has_its_own_limit(worker: Worker) -> None:
    worker.heartbeat.beat()
    worker.child.take(150.0)
    assert worker.child.deadline(LIMITS) == 160.0, "beats do not prolong it"
    worker.child.enforce(159.9, LIMITS)
    assert worker.process.poll() is None
    worker.child.enforce(160.0, LIMITS)
    assert worker.process.wait(30) == -signal.SIGABRT
    assert worker.child.condemned == "not ready in time"


def test_every_beat_prolongs_the_life_of_a_ready_worker(worker: Worker) -> None:
    ready(worker, 110.0)
    assert worker.child.deadline(LIMITS) == 125.0
    worker.heartbeat.beat()
    worker.child.take(120.0)
    assert worker.child.deadline(LIMITS) == 135.0
    assert worker.child.fresh(134.9, LIMITS)
    assert not worker.child.fresh(135.0, LIMITS)


def test_a_hung_worker_is_aborted_and_then_killed(worker: Worker) -> None:
    ready(worker, 110.0)
    os.kill(worker.process.pid, signal.SIGSTOP)
    worker.child.enforce(125.0, LIMITS)
    assert worker.child.condemned == "its event loop hangs"
    assert not worker.child.fresh(125.0, LIMITS)
    assert worker.child.deadline(LIMITS) == 127.0
    worker.heartbeat.beat()
    worker.child.take(126.0)
    assert worker.child.deadline(LIMITS) == 127.0, "a late beat does not save it: it was told to die"
    worker.child.enforce(127.0, LIMITS)
    assert worker.process.wait(30) == -signal.SIGKILL, "which works on a stopped process too"
    assert worker.child.deadline(LIMITS) == float("inf")


def test_a_draining_worker_has_until_its_limit_and_no_more(worker: Worker) -> None:
    ready(worker, 110.0)
    worker.child.drain(kill_at=140.0)
    worker.child.drain(kill_at=200.0)
    assert worker.child.deadline(LIMITS) == 140.0
    assert worker.process.wait(30) == -signal.SIGTERM


def test_time_in_which_the_supervisor_did_not_run_does_not_count(worker: Worker) -> None:
    ready(worker, 110.0)
    worker.child.excuse(60.0)
    worker.child.enforce(180.0, LIMITS)
    assert worker.process.poll() is None
    assert worker.child.deadline(LIMITS) == 185.0
    worker.child.drain(kill_at=190.0)
    worker.child.excuse(5.0)
    assert worker.child.deadline(LIMITS) == 195.0


def test_its_own_words_are_kept(worker: Worker) -> None:
    worker.heartbeat.failed("no database")
    worker.child.take(101.0)
    worker.child.take(102.0)
    assert worker.child.failure == "no database"


@pytest.mark.parametrize(("status", "words"), [(3 << 8, "exit status 3"), (9, "signal SIGKILL"), (40, "signal 40")])
def test_endings_have_names(status: int, words: str) -> None:
    assert how_it_ended(status) == words
