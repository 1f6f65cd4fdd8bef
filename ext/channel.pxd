"""One WebSocket connection from its 101 to its end. `Link` and the echo build on it."""

from libc.stdint cimport uint8_t, uint16_t

from picows.picows cimport WSTransport

from veredus.ext.intake cimport Intake
from veredus.ext.outbox cimport Outbox


# Why reading is paused; both may hold.
cdef enum Pause:
    BY_OWNER = 1      # the core's lane is full
    BY_BACKLOG = 2    # the peer does not read what it asked for


cdef class Channel(Intake):
    cdef:
        WSTransport _wire
        object _transport               # asyncio's

        # Life, in station.now.
        double _last_in
        double _pinged_at               # NO_PING: none of ours is out
        double _closing_at
        bint _pings_itself
        uint8_t _paused                 # of Pause

        # Writing. The outbox is borrowed while something is queued.
        Outbox _outbox
        bint _dirty                     # the station will flush
        bint _blocked                   # has_room() said no; writable() is due
        Py_ssize_t _backlog             # the transport's write buffer when last looked at
        int _pongs                      # queued since the last flush
        bytes _late_pong                # the newest ping above PONGS

    # For subclasses to override.
    cdef int writable(self) except -1
    cdef int lost(self) except -1

    # For subclasses to call.
    cdef bint is_open(self) noexcept
    cdef Outbox outbox(self)                         # to queue into; flushed at the end of the iteration
    cdef bint has_room(self, Py_ssize_t size) except -1

    cdef void _say_close(self, uint16_t status, bytes reason) except *
    cdef void _write(self) except *
    cdef void _release_outbox(self) except *
    cdef void _unblock(self) except *
    cdef void _pause(self, uint8_t why) except *
    cdef void _resume(self, uint8_t why) except *
