"""What all connections of a worker share, and the face each of them shows it."""

from libc.stdint cimport uint8_t, uint64_t

from picows.picows cimport MemoryBuffer, WSListener

from veredus.ext.outbox cimport Outbox
from veredus.ext.partial cimport Budget


# A connection as its station sees it.
cdef class Member(WSListener):
    cdef Py_ssize_t _place                       # in station._members; -1: not there

    cdef void flush(self) except *               # write what is queued
    cdef void check(self, double now) except *   # the sweep's look
    cdef void shut(self, int code) except *      # CLOSE by the catalogue, after what is queued
    cdef int farewell(self, unsigned int reconnect_after_ms) except -1
    cdef void drop(self) except *                # now, without a word


# One per event loop, made by wiring.
cdef class Station:
    cdef:
        object __weakref__
        readonly object loop
        object _clock

        # Limits as C numbers; their reasons stand in core/limits.py.
        readonly Py_ssize_t message_bytes
        readonly Py_ssize_t outbox_bytes
        readonly double partial_seconds
        readonly double closing_seconds
        readonly double server_ping_seconds
        readonly double pong_seconds
        readonly double idle_close_seconds

        # One read buffer: a read is handled wholly before the next one begins, whichever connection that is for.
        uint8_t* scratch
        object scratch_view

        # For picows: one write buffer does for all, since nothing ever waits in it; a logger that says nothing.
        MemoryBuffer write_buffer
        object quiet

        # Half-received messages of all connections.
        readonly Budget budget

        # Outboxes not in use; connections with something to write, flushed once at the end of the loop iteration.
        list _outboxes
        Py_ssize_t _batch_messages
        Py_ssize_t _batch_bytes
        list _dirty
        object _flush_soon              # the bound method, made once
        bint _flush_scheduled

        # All connections; each knows its place, so that leaving costs nothing.
        list _members
        readonly double now             # the clock at the last sweep: stamps of life need no more
        object _timer
        double _interval

        # Catalogue number -> (close code, reason in UTF-8), and how often it was used.
        dict _closings
        frozenset _endings              # numbers that close a connection by themselves
        readonly dict refused

        # Counters, read at scrape.
        readonly uint64_t opened
        readonly uint64_t messages
        readonly uint64_t reads
        readonly uint64_t writes
        readonly uint64_t pongs_dropped
        readonly uint64_t faults        # exceptions in handlers

    cdef void touch(self, Member member) except *
    cdef Outbox borrow(self)
    cdef void give_back(self, Outbox outbox) except *
    cdef tuple closing(self, int code)
    cdef str reason(self, int code)
    cdef bint ends(self, int code) except -1
    cdef void report(self, object fault) except *
    cdef void enter(self, Member member) except *
    cdef void leave(self, Member member) except *
