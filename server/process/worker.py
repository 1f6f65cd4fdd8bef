"""Runs the body of a worker on its own uvloop: beats, notices SIGTERM and the end of the supervisor. Knows nothing of what it serves.

Theory of operation. The body is a coroutine that gets the context and an `asyncio.Event`. It calls `context.ready()` when it accepts
connections, waits for the event, drains and returns. The event is set by SIGTERM, or when the lifeline ends: then the supervisor was killed
and nobody is left to enforce a limit, so the kernel is asked to, by an alarm whose default action ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

import uvloop

from veredus.server.failure import StartFailed
from veredus.server.process.contract import BOOT_FAILED, CRASHED, DONE, WorkerContext

Body = Callable[[WorkerContext, asyncio.Event], Awaitable[None]]

_log = logging.getLogger(__name__)


def run(context: WorkerContext, body: Body) -> int:
    """The exit code: DONE after a stop that was asked for, BOOT_FAILED when it never was ready, else CRASHED. For
    `SupervisorSpec.worker_main`, as `lambda context: run(context, body)`."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            asked = runner.run(_live(context, body))
    except StartFailed as failure:
        context.heartbeat.failed(str(failure))
        _log.error("worker %d cannot start: %s", context.index, failure)
    except Exception as error:
        context.heartbeat.failed(f"{type(error).__name__}, see its traceback")
        _log.exception("worker %d failed", context.index)
    else:
        if asked:
            return DONE
        _log.error("worker %d returned without being asked to stop", context.index)
    return CRASHED if context.heartbeat.is_ready else BOOT_FAILED


async def _live(context: WorkerContext, body: Body) -> bool:
    """Whether the end was asked for."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def orphaned() -> None:
        stop.set()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, context.limits.orphan_seconds)
        loop.remove_reader(context.lifeline)
        # Last, since whoever read the log may have died with the supervisor, and writing may raise.
        _log.warning("worker %d: the supervisor is gone; draining for at most %g s", context.index, context.limits.orphan_seconds)

    def beat() -> None:
        context.heartbeat.beat()
        loop.call_later(context.limits.beat_seconds, beat)

    loop.add_reader(context.lifeline, orphaned)
    beat()
    await body(context, stop)
    return stop.is_set()
