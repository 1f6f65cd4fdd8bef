"""The pipe from a worker to its supervisor."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from veredus.server.process.heartbeat import Heartbeat, Pulse, Reading


@pytest.fixture
def ends() -> Iterator[tuple[Heartbeat, Pulse, int]]:
    reader, writer = os.pipe()
    pulse = Pulse(reader)
    yield Heartbeat(writer), pulse, writer
    pulse.close()
    os.close(writer)


def test_silence_is_told_from_the_end() -> None:
    reader, writer = os.pipe()
    pulse = Pulse(reader)
    assert pulse.read() == Reading()
    os.close(writer)
    assert pulse.read() == Reading(ended=True)
    pulse.close()


def test_what_came_between_two_looks_is_one_reading(ends: tuple[Heartbeat, Pulse, int]) -> None:
    heartbeat, pulse, _ = ends
    heartbeat.beat()
    heartbeat.ready()
    heartbeat.beat()
    assert pulse.read() == Reading(alive=True, ready=True)
    assert pulse.read() == Reading()


def test_readiness_is_said_once(ends: tuple[Heartbeat, Pulse, int]) -> None:
    heartbeat, pulse, _ = ends
    heartbeat.ready()
    assert heartbeat.is_ready
    assert pulse.read().ready
    heartbeat.ready()
    assert not pulse.read().ready


def test_a_reason_is_one_bounded_line(ends: tuple[Heartbeat, Pulse, int]) -> None:
    heartbeat, pulse, _ = ends
    heartbeat.failed("no\ndatabase\nready " + "x" * 100_000)
    reading = pulse.read()
    assert reading.failure is not None
    assert reading.failure.startswith("no database ready xxx")
    assert len(reading.failure) < select.PIPE_BUF
    assert not reading.ready


def test_a_line_that_was_cut_is_completed_by_the_next_look(ends: tuple[Heartbeat, Pulse, int]) -> None:
    _, pulse, writer = ends
    os.write(writer, b"beat\nrea")
    assert pulse.read() == Reading(alive=True)
    os.write(writer, b"dy\n")
    assert pulse.read() == Reading(alive=True, ready=True)


def test_a_worker_is_not_held_up_by_a_supervisor_that_does_not_read(ends: tuple[Heartbeat, Pulse, int]) -> None:
    heartbeat, pulse, _ = ends
    for _ in range(20_000):
        heartbeat.beat()
    assert pulse.read().alive


def test_a_worker_outlives_the_other_end() -> None:
    reader, writer = os.pipe()
    heartbeat = Heartbeat(writer)
    os.close(reader)
    heartbeat.beat()
    os.close(writer)
