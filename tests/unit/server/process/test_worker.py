"""How a worker's body ends, and what its process makes of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from veredus.server.failure import StartFailed
from veredus.server.process.contract import BOOT_FAILED, CRASHED, DONE, ProcessLimits, WorkerContext
from veredus.server.process.heartbeat import Heartbeat, Pulse
from veredus.server.process.worker import run


class Birth:
    """A context, and the supervisor's ends of its pipes."""

    def __init__(self) -> None:
        reader, self._writer = os.pipe()
        self._lifeline, self.supervisor = os.pipe()
        self.pulse = Pulse(reader)
        self.context = WorkerContext(
            index=0, incarnation="00" * 8, listeners=(), heartbeat=Heartbeat(self._writer), lifeline=self._lifeline,
            limits=ProcessLimits(beat_seconds=0.001, orphan_seconds=500.0),
        )  # fmt: skip

    def close(self) -> None:
        self.pulse.close()
        for fd in (self._writer, self._lifeline, self.supervisor):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def birth() -> Iterator[Birth]:
    birth = Birth()
    yield birth
    birth.close()


def test_a_body_that_returns_after_sigterm_is_done(birth: Birth) -> None:
    async def body(context: WorkerContext, stop: asyncio.Event) -> None:
        context.ready()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()

    assert run(birth.context, body) == DONE
    assert birth.pulse.read().ready


def test_beats_come_from_the_loop_before_and_after_readiness(birth: Birth) -> None:
    async def body(context: WorkerContext, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            while not birth.pulse.read().alive:
                heard = loop.create_future()
                loop.add_reader(birth.pulse.fileno(), heard.set_result, None)
                await heard
                loop.remove_reader(birth.pulse.fileno())
            context.ready()
        stop.set()

    assert run(birth.context, body) == DONE


def test_a_failure_before_readiness_is_a_failed_boot_in_its_own_words(birth: Birth) -> None:
    async def body(context: WorkerContext, stop: asyncio.Event) -> None:
        raise StartFailed("database_url: nobody answers")

    assert run(birth.context, body) == BOOT_FAILED
    assert birth.pulse.read().failure == "database_url: nobody answers"


def test_the_text_of_any_other_exception_is_not_passed_on(birth: Birth) -> None:
    async def body(context: WorkerContext, stop: asyncio.Event) -> None:
        raise ValueError("content of a message")

    assert run(birth.context, body) == BOOT_FAILED
    assert birth.pulse.read().failure == "ValueError, see its traceback"


@pytest.mark.parametrize("raising", [True, False])
def test_an_end_nobody_asked_for_is_a_crash(birth: Birth, raising: bool) -> None:
    async def body(context: WorkerContext, stop: asyncio.Event) -> None:
        context.ready()
        if raising:
            raise ValueError

    assert run(birth.context, body) == CRASHED


@pytest.mark.timeout(60, method="thread")  # the other method uses the very alarm
def test_the_end_of_the_supervisor_stops_the_body_and_sets_the_kernels_alarm(birth: Birth) -> None:
    async def body(context: WorkerContext, stop: asyncio.Event) -> None:
        context.ready()
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
        os.close(birth.supervisor)
        birth.supervisor = -1
        await stop.wait()

    try:
        assert run(birth.context, body) == DONE
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        assert 0 < left <= 500.0
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL, "which ends the process"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
