"""Decisions of the supervisor that depend on time, with the time as an argument. Real forks are in tests/integration/test_supervisor.py."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from veredus.server.process.child import Child
from veredus.server.process.contract import ProcessLimits, SupervisorSpec
from veredus.server.process.heartbeat import Heartbeat, Pulse
from veredus.server.process.supervisor import Supervisor

LIMITS = ProcessLimits(hang_seconds=15, restart_seconds=0.5, restart_seconds_max=10)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def supervisor(workers: int = 2) -> Supervisor:
    return Supervisor(SupervisorSpec(worker_main=lambda _: 0, addresses=(), workers=workers, limits=LIMITS))


def heard(manager: socket.socket) -> list[bytes]:
    found = []
    try:
        while True:
            found.append(manager.recv(4096))
    except BlockingIOError:
        return found


def test_the_watchdog_is_fed_while_every_worker_beats_and_not_otherwise(manager: socket.socket) -> None:
    watched = supervisor()
    pipes = [os.pipe() for _ in range(2)]
    hearts = [Heartbeat(writer) for _, writer in pipes]
    for slot, (reader, _) in zip(watched._slots, pipes, strict=True):
        slot.current = Child(0, slot.index, 0, Pulse(reader), now=100.0)
    for heart in hearts:
        heart.ready()
    watched._hear(100.0)
    watched._watchdog(100.0)
    assert heard(manager) == [], "not before all were ready"
    watched._announced = True
    watched._watchdog(100.0)
    watched._watchdog(105.0)
    assert heard(manager) == [b"WATCHDOG=1"], "once in half the limit"
    watched._watchdog(110.0)
    assert heard(manager) == [b"WATCHDOG=1"]
    hearts[0].beat()
    watched._hear(114.0)
    watched._watchdog(120.0)
    assert heard(manager) == [], "the other has been silent for 20 s"
    hearts[1].beat()
    watched._hear(121.0)
    watched._watchdog(130.0)
    assert heard(manager) == [], "now the first is silent"
    for heart in hearts:
        heart.beat()
    watched._hear(135.0)
    watched._watchdog(140.0)
    assert heard(manager) == [b"WATCHDOG=1"]
    for reader, writer in pipes:
        os.close(reader)
        os.close(writer)


def test_pauses_double_up_to_a_limit_and_the_first_is_none() -> None:
    assert [supervisor()._pause(failures) for failures in range(1, 8)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0]
    assert supervisor()._pause(100_000) == 10.0


def test_it_does_not_fork_beside_threads() -> None:
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    with pytest.raises(RuntimeError, match="before any thread"):
        supervisor().run()
    stop.set()
    other.join()


def test_as_many_workers_as_cpus_unless_told() -> None:
    assert len(supervisor(0)._slots) >= 1
    assert len(supervisor(7)._slots) == 7
