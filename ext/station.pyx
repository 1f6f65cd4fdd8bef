"""What all connections of a worker share: read buffer, budget, outboxes, the flush at the end of an iteration, the sweep, counters.

Owns the one timer and the one scheduled call that all connections have together; a connection has none of its own. Knows connections only
by `Member`, and never reads or writes a socket.
"""

import logging
import random
import traceback

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from picows.picows cimport MemoryBuffer, WSListener

from veredus.ext.outbox cimport Outbox
from veredus.ext.partial cimport Budget


cdef enum:
    # What libuv asks for per read. One per worker, so its size costs nothing per connection.
    SCRATCH = 65536
    # Outboxes kept for the next iteration, each with at most 128 KiB: as many as connections that are busy at once in an iteration.
    POOL = 64

cdef object LOG = logging.getLogger("veredus.link")


class _Quiet:
    """picows' logger: what it would say is normal or counted here, and some of it names peers."""

    def isEnabledFor(self, level: int) -> bool:  # the name logging.Logger gave it
        return False

    def _ignore(self, *args: object, **more: object) -> None:
        pass

    debug = info = warning = error = exception = log = _ignore


cdef class Member(WSListener):
    """A connection as its station sees it."""

    def __cinit__(self, *args, **more):
        self._place = -1

    cdef void flush(self) except *:
        raise NotImplementedError

    cdef void check(self, double now) except *:
        raise NotImplementedError

    cdef void shut(self, int code) except *:
        raise NotImplementedError

    cdef int farewell(self, unsigned int reconnect_after_ms) except -1:
        raise NotImplementedError

    cdef void drop(self) except *:
        raise NotImplementedError


cdef class Station:
    """Made by wiring, one per event loop. `limits` has the names of core's; `closings`: catalogue number to close code and reason;
    `endings`: the numbers that close a connection by themselves.
    """

    def __cinit__(self, *args, **more):
        self.scratch = <uint8_t*>malloc(SCRATCH)
        if self.scratch == NULL:
            raise MemoryError

    def __init__(self, object loop, object limits, object clock, dict closings, frozenset endings) -> None:
        self.loop = loop
        self._clock = clock
        self.message_bytes = limits.message_bytes
        self.outbox_bytes = limits.outbox_bytes
        self.partial_seconds = limits.partial_seconds
        self.closing_seconds = limits.closing_seconds
        self.server_ping_seconds = limits.server_ping_seconds
        self.pong_seconds = limits.pong_seconds
        self.idle_close_seconds = limits.idle_close_seconds
        self.scratch_view = PyMemoryView_FromMemory(<char*>self.scratch, SCRATCH, PyBUF_WRITE)
        self.write_buffer = MemoryBuffer(1024)
        self.quiet = _Quiet()
        self.budget = Budget(limits.partial_bytes_per_worker)
        self._batch_messages = limits.batch_messages
        self._batch_bytes = limits.batch_delivery_bytes
        self._outboxes = []
        self._dirty = []
        self._flush_soon = self._flush_all
        self._members = []
        self.now = clock.monotonic()
        self._closings = closings
        self._endings = endings
        self.refused = {}

    def __dealloc__(self):
        free(self.scratch)

    @property
    def open(self) -> int:
        """Connections now, those that are closing included."""
        return len(self._members)

    def start(self, double interval=1.0) -> None:
        """Sweep every `interval` seconds from now on."""
        self._interval = interval
        self._timer = self.loop.call_later(interval, self._tick)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = self.loop.call_later(self._interval, self._tick)
        self.sweep()

    def sweep(self) -> None:
        """Look at every connection once: heartbeat, messages begun and not ended, closing handshakes that do not end."""
        cdef Member member
        self.now = self._clock.monotonic()
        for member in list(self._members):
            try:
                if member._place >= 0:
                    member.check(self.now)
            except Exception as fault:
                self.report(fault)
                member.drop()

    def close_all(self, int code, unsigned int reconnect_within_ms=0) -> None:
        """Give notice on every connection, each with another delay, and close it by the catalogue."""
        cdef Member member
        for member in list(self._members):
            try:
                member.farewell(random.randint(0, reconnect_within_ms))
            except Exception as fault:
                self.report(fault)
            member.shut(code)

    def abort_all(self) -> None:
        """Drop every connection now."""
        cdef Member member
        for member in list(self._members):
            member.drop()

    def count_refusal(self, int code) -> None:
        """Count an upgrade, or a request for one, that got another answer."""
        self.refused[code] = self.refused.get(code, 0) + 1

    def counters(self) -> dict:
        """Totals since the start, by name; what is `open` and held now besides."""
        return {
            "open": len(self._members), "opened": self.opened, "messages": self.messages, "reads": self.reads, "writes": self.writes,
            "pongs_dropped": self.pongs_dropped, "faults": self.faults, "partial_bytes": self.budget.used,
            "partial_refused": self.budget.refused,
        }

    def _flush_all(self) -> None:
        cdef Member member
        cdef list dirty = self._dirty
        self._dirty = []
        self._flush_scheduled = False
        for member in dirty:
            try:
                member.flush()
            except Exception as fault:   # nobody else's answers may wait for ever because of it
                self.report(fault)
                member.drop()

    cdef void touch(self, Member member) except *:
        self._dirty.append(member)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush_soon)

    cdef Outbox borrow(self):
        if self._outboxes:
            return <Outbox>self._outboxes.pop()
        return Outbox(self._batch_messages, self._batch_bytes)

    cdef void give_back(self, Outbox outbox) except *:
        outbox.clear()
        if len(self._outboxes) < POOL:
            self._outboxes.append(outbox)

    cdef tuple closing(self, int code):
        self.count_refusal(code)
        return <tuple>self._closings[code]

    cdef str reason(self, int code):
        return (<bytes>(<tuple>self._closings[code])[1]).decode()

    cdef bint ends(self, int code) except -1:
        return code in self._endings

    cdef void report(self, object fault) except *:
        # The text of an exception may quote a message: only its type and the way it took are told.
        self.faults += 1
        way = " < ".join([f"{step.name}:{step.lineno}" for step in reversed(traceback.extract_tb(fault.__traceback__))])
        LOG.error("INTERNAL: %s in the handler of a connection, at %s", type(fault).__name__, way)

    cdef void enter(self, Member member) except *:
        member._place = len(self._members)
        self._members.append(member)
        self.opened += 1

    cdef void leave(self, Member member) except *:
        cdef Member last
        if member._place < 0:
            return
        last = <Member>self._members.pop()
        if last is not member:
            self._members[member._place] = last
            last._place = member._place
        member._place = -1
