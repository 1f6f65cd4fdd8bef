"""What waits to be written on one connection: WebSocket messages in one piece of memory, so that they leave in one write."""

from libc.stdint cimport uint8_t

from veredus.ext.frames cimport FrameWriter


# Kinds of items are the field numbers of ServerFrame: a receiver handles them in this order, so within a frame they never fall.
cdef enum Kind:
    HELLO = 1
    RESULT = 2
    DELIVERY = 3
    DRAINED = 4
    ERROR = 5
    SHUTDOWN = 6


cdef class Outbox:
    cdef:
        # The last ServerFrame, still growing.
        FrameWriter _frame
        int _kind                     # the largest kind in it
        Py_ssize_t _deliveries        # in it

        # Whole messages before it, as bytes on the wire. Empty unless kinds fell, a limit was met, or a control frame was sent.
        uint8_t* _sealed
        Py_ssize_t _size
        Py_ssize_t _capacity

        # One message holds at most so much (SYN-5).
        readonly Py_ssize_t max_deliveries
        readonly Py_ssize_t max_bytes

    # The frame to put an item of this kind into, about `size` bytes large.
    cpdef FrameWriter frame(self, int kind, Py_ssize_t size=*)

    # A whole message of its own, after everything queued before.
    cdef int message(self, uint8_t opcode, const void* payload, Py_ssize_t size) except -1

    # Everything as bytes on the wire; valid until the next call.
    cdef uint8_t* finish(self, Py_ssize_t* size) except? NULL
    cdef Py_ssize_t queued(self) noexcept
    # Empty. Memory above 64 KiB is given back, so that a pool of these stays small.
    cdef void clear(self) noexcept
    cdef int _seal(self) except -1
    cdef uint8_t* _room(self, Py_ssize_t size) except NULL
