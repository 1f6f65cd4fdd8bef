"""The process that owns the workers: forks, watches, replaces, rolls and stops them. Serves nothing and holds no connection.

Theory of operation. A plain loop waits for three kinds of things: signals (signals.py), what workers say (heartbeat.py), and the earliest
deadline. It starts no event loop and no thread, so that a fork carries nothing over. After whatever woke it, every turn does the same:
hear the workers, obey signals, reap by pid, enforce deadlines, then `_steer` towards what should be. So no event needs its own path and
none can be missed for good.

A slot is one place of N, with its own listening sockets. In it, `current` serves, `incoming` boots, and those `retiring` drain. A first
start, the replacement of a dead worker and a rolling restart are the same: fork an incoming worker; once it is ready it is the current
one, and a predecessor drains. A rolling restart raises the wanted generation; slots below it are renewed one at a time.

A worker that dies is replaced at once if it had served for a while, else after a pause that doubles. One that dies before it was ready is
a boot failure: several in a row while nothing serves (or before everything once did) end the supervisor, since the cause will not go away
and the service manager should know. While others serve, a slot is tried again for ever: ending healthy workers would help nobody. A
rolling restart whose newcomer fails is abandoned; the old workers stay.

Workers notice the death of the supervisor by the end of the `lifeline` pipe, whose writing end nobody else has.
"""

from __future__ import annotations

import logging
import os
import secrets
import selectors
import signal
import threading
import time
from dataclasses import dataclass, field

from veredus.server.process import collector
from veredus.server.process.child import Child, how_it_ended, live
from veredus.server.process.contract import BOOT_FAILED, DONE, SupervisorSpec, WorkerContext
from veredus.server.process.cpus import usable_cpus
from veredus.server.process.heartbeat import Heartbeat, Pulse
from veredus.server.process.notify import Notifier
from veredus.server.process.signals import SignalQueue
from veredus.server.process.sockets import Listeners, given_listeners, open_listeners

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Slot:
    """One place for a worker."""

    index: int
    current: Child | None = None
    incoming: Child | None = None
    retiring: list[Child] = field(default_factory=list)
    failures: int = 0  # short lives in a row
    boot_failures: int = 0  # in a row
    fork_at: float = 0.0  # monotonic; not earlier

    def children(self) -> list[Child]:
        return [child for child in (self.current, self.incoming, *self.retiring) if child]


class Supervisor:
    """Runs `spec.workers` workers (0: one per CPU this process may use) until it is told to stop. One per process, in the main thread."""

    def __init__(self, spec: SupervisorSpec) -> None:
        self._spec = spec
        self._limits = spec.limits
        self._notifier = Notifier(os.environ)
        self._slots = [Slot(index) for index in range(spec.workers or usable_cpus())]
        self._signals = SignalQueue(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        self._selector = selectors.PollSelector()  # no kernel object that a fork would share
        self._listeners = Listeners(())
        self._lifeline = (-1, -1)
        self._generation = 0
        self._rolling = False
        self._announced = False
        self._exit_code: int | None = None  # set: stopping
        self._watchdog_at = 0.0

    def run(self) -> int:
        """The exit code: DONE after SIGTERM or SIGINT, BOOT_FAILED when workers cannot start. Raises StartFailed when it cannot listen,
        RuntimeError when the process is not fit to fork."""
        if threading.active_count() > 1:
            raise RuntimeError("the supervisor must fork before any thread exists")
        count = len(self._slots)
        self._listeners = given_listeners(os.environ, count) or open_listeners(self._spec.addresses, count, self._limits.address_seconds)
        self._lifeline = os.pipe()
        self._signals.open()
        self._selector.register(self._signals, selectors.EVENT_READ)
        collector.settle()
        try:
            return self._loop()
        finally:
            self._close()

    # ---- the loop

    def _loop(self) -> int:
        now = time.monotonic()
        while True:
            self._steer(now)
            if self._exit_code is not None and not self._children():
                return self._exit_code
            self._watchdog(now)
            wake_at = self._next_deadline(now)
            self._selector.select(max(0.0, wake_at - now))
            now = time.monotonic()
            self._excuse(now - wake_at)
            self._hear(now)
            numbers = self._signals.read()
            for number in numbers:
                self._obey(number, now)
            if signal.SIGCHLD in numbers:
                self._reap(now)
            for child in self._children():
                child.enforce(now, self._limits)

    def _next_deadline(self, now: float) -> float:
        deadlines = [child.deadline(self._limits) for child in self._children()]
        if self._exit_code is None:
            deadlines += [slot.fork_at for slot in self._slots if not slot.current and not slot.incoming]
            if self._notifier.watchdog_seconds is not None and self._announced:
                deadlines.append(self._watchdog_at)
        # At least once per beat, although beats wake us anyway: so that a longer sleep than wished tells how long we were stopped.
        return min([*deadlines, now + self._limits.beat_seconds])

    def _excuse(self, late: float) -> None:
        """This process, and perhaps the whole machine, was stopped or starved for so long: nobody could be heard."""
        if late > self._limits.beat_seconds:
            for child in self._children():
                child.excuse(late)

    def _hear(self, now: float) -> None:
        for child in self._children():
            was_ready = child.ready_since is not None
            if child.take(now).ended:
                # It closed the pipe: its end follows as SIGCHLD. An ended pipe is always readable and would wake us for ever.
                self._deafen(child)
            if child.ready_since is not None and not was_ready:
                self._promote(child, now)

    def _obey(self, number: int, now: float) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._exit_code is None:
                self._stop(DONE, "told to stop", now)
            else:
                _log.warning("told again: killing the workers that still drain")
                for child in self._children():
                    child.kill()
        elif number == signal.SIGHUP and self._exit_code is None:
            self._generation += 1
            self._rolling = True
            self._notifier.reloading("rolling restart")
            _log.info("rolling restart of %d workers", len(self._slots))

    def _reap(self, now: float) -> None:
        for slot in self._slots:
            for child in slot.children():
                status = child.reap()
                if status is not None:
                    # It may have spoken between the last look and its end.
                    child.take(now)
                    self._deafen(child)
                    child.pulse.close()
                    self._bury(slot, child, how_it_ended(status), now)

    # ---- what becomes of workers

    def _promote(self, child: Child, now: float) -> None:
        """It serves now; whoever served before drains."""
        slot = self._slots[child.slot]
        if slot.incoming is not child:
            return
        predecessor, slot.current, slot.incoming = slot.current, child, None
        slot.boot_failures = 0
        _log.info("worker %d (pid %d) serves", child.slot, child.pid)
        if predecessor:
            slot.retiring.append(predecessor)
            predecessor.drain(now + self._limits.drain_seconds)
        if all(each.current for each in self._slots):
            if not self._announced:
                self._announced = True
                self._watchdog_at = now
                self._notifier.ready(self._status())
                if self._spec.on_ready:
                    self._spec.on_ready(self._listeners.addresses)
            elif not self._rolling:
                self._notifier.status(self._status())

    def _bury(self, slot: Slot, child: Child, ending: str, now: float) -> None:
        if child in slot.retiring or self._exit_code is not None:
            _log.info("worker %d (pid %d) ended: %s", slot.index, child.pid, ending)
            self._remove(slot, child)
            return
        cause = ", ".join(part for part in (ending, child.condemned, child.failure) if part)
        self._remove(slot, child)
        lived = now - child.ready_since if child.ready_since is not None else 0.0
        slot.failures = 1 if lived >= self._limits.steady_seconds else slot.failures + 1
        slot.fork_at = now + self._pause(slot.failures)
        if child.ready_since is not None:
            _log.error("worker %d (pid %d) died: %s; replacing it", slot.index, child.pid, cause)
            self._notifier.status(self._status())
        else:
            _log.error("worker %d (pid %d) failed to start: %s", slot.index, child.pid, cause)
            self._boot_failed(slot, cause, now)

    def _boot_failed(self, slot: Slot, cause: str, now: float) -> None:
        slot.boot_failures += 1
        if self._rolling and slot.current:
            _log.error("the rolling restart is abandoned; the workers of before go on")
            self._generation_of_all(self._generation)
            self._rolling = False
            self._notifier.ready(f"{self._status()}; the rolling restart was abandoned")
        serving = any(each.current for each in self._slots)
        if slot.boot_failures >= self._limits.boot_failures and not (self._announced and serving):
            reason = f"worker {slot.index} failed to start {slot.boot_failures} times in a row; the last: {cause}"
            _log.critical("giving up: %s", reason)
            self._stop(BOOT_FAILED, reason, now)

    def _pause(self, failures: int) -> float:
        """Before the next fork in a slot: none after the first short life, then doubling."""
        if failures <= 1:
            return 0.0
        return min(self._limits.restart_seconds_max, self._limits.restart_seconds * 2.0 ** min(failures - 2, 30))

    def _stop(self, exit_code: int, reason: str, now: float) -> None:
        self._exit_code = exit_code
        self._notifier.stopping(f"draining: {reason}")
        _log.info("stopping: %s", reason)
        # With ours gone, the address refuses as soon as a worker closes its own, and balancers go elsewhere.
        self._listeners.close()
        for child in self._children():
            child.drain(now + self._limits.drain_seconds)

    def _steer(self, now: float) -> None:
        """Fork what is missing, and the next of a rolling restart."""
        if self._exit_code is not None:
            return
        for slot in self._slots:
            if not slot.current and not slot.incoming and now >= slot.fork_at:
                self._fork(slot, now)
        if not self._rolling or any(slot.incoming or slot.retiring for slot in self._slots):
            return
        for slot in self._slots:
            if slot.current and slot.current.generation < self._generation:
                self._fork(slot, now)
                return
        if all(slot.current for slot in self._slots):
            self._rolling = False
            self._notifier.ready(self._status())
            _log.info("the rolling restart is done")

    def _generation_of_all(self, generation: int) -> None:
        for child in self._children():
            child.generation = generation

    # ---- forking

    def _fork(self, slot: Slot, now: float) -> None:
        reader, writer = os.pipe()
        with self._signals.held_back():
            try:
                pid = os.fork()
            except OSError as error:  # no memory or no processes left: as if it had died at once
                os.close(reader)
                os.close(writer)
                slot.failures += 1
                slot.fork_at = now + max(self._limits.restart_seconds, self._pause(slot.failures))
                _log.error("worker %d cannot be forked: %s", slot.index, error.strerror)
                self._boot_failed(slot, f"fork: {error.strerror}", now)
                return
            if pid == 0:
                live(self._signals.leave, lambda: self._be_worker(slot.index, reader, writer))
        os.close(writer)
        slot.incoming = Child(pid, slot.index, self._generation, Pulse(reader), now)
        self._selector.register(slot.incoming.pulse, selectors.EVENT_READ)

    def _be_worker(self, index: int, reader: int, writer: int) -> int:
        """In the child: let go of everything that is not this worker's, then be it."""
        os.close(reader)
        for child in self._children():
            child.pulse.close()
        self._selector.close()
        os.close(self._lifeline[1])
        self._listeners.keep_only(index)
        context = WorkerContext(
            index=index,
            incarnation=secrets.token_hex(8),
            listeners=self._listeners.of(index),
            heartbeat=Heartbeat(writer),
            lifeline=self._lifeline[0],
            limits=self._limits,
        )
        return self._spec.worker_main(context)

    # ---- small things

    def _children(self) -> list[Child]:
        return [child for slot in self._slots for child in slot.children()]

    def _remove(self, slot: Slot, child: Child) -> None:
        if slot.current is child:
            slot.current = None
        elif slot.incoming is child:
            slot.incoming = None
        else:
            slot.retiring.remove(child)

    def _deafen(self, child: Child) -> None:
        if child.pulse in self._selector.get_map():
            self._selector.unregister(child.pulse)

    def _status(self) -> str:
        return f"{sum(1 for slot in self._slots if slot.current)} of {len(self._slots)} workers serve"

    def _watchdog(self, now: float) -> None:
        """Tell the manager that all is well, if it is."""
        every = self._notifier.watchdog_seconds
        if every is None or not self._announced or now < self._watchdog_at:
            return
        self._watchdog_at = now + every
        serving = [slot.current for slot in self._slots if slot.current]
        if serving and all(child.fresh(now, self._limits) for child in serving):
            self._notifier.watchdog()

    def _close(self) -> None:
        self._selector.close()
        self._signals.close()
        self._listeners.close()
        for fd in self._lifeline:
            os.close(fd)
