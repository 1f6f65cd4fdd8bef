"""One simulated device of the load generator: sends, acknowledges, and checks what it is delivered. The header."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from picows.picows cimport WSFrame, WSListener, WSTransport

from veredus.ext.hist cimport Histogram
from veredus.ext.wire cimport Cursor


cdef enum:
    STAMP = 32          # head of every content: run, sender, number in its stream, intended time
    FILLER = 1 << 20    # random bytes that contents are cut from: what repeats is further apart than a compressor looks
    FRAME_BYTES = 1 << 20   # sends joined in one WebSocket message; half of what a server takes
    SPREAD = 4          # numbers between the oldest and the newest unanswered send, in windows


# One run's figures, shared by all devices of a process.
cdef class Run:
    cdef:
        object _clock           # () -> nanoseconds
        bytes _filler
        uint64_t nonce
        int32_t type
        Py_ssize_t payload
        public bint recording   # latencies are counted
        readonly Histogram sent_latency, delivered_latency
        readonly uint64_t accepted, refused, failed, delivered, duplicated, reordered, foreign, malformed, errors

    cdef uint64_t now(self) except? 0


cdef struct Slot:
    uint64_t intended
    uint8_t state


cdef class Device(WSListener):
    cdef:
        readonly Run run
        readonly uint32_t number
        object _told            # (device, event): greeted, drained, lost
        WSTransport _transport
        readonly int close_code

        # What leaves with the next flush: room for a WebSocket header, then _size bytes.
        uint8_t* _out
        Py_ssize_t _capacity, _size

        # As a sender. Stream s of _streams goes to the account at 16 * s; number n of the sender is n // _streams of stream n % _streams.
        bytes _destinations
        uint64_t _streams, _next, _base, _limit, _window, _places
        readonly uint64_t flying
        uint64_t _refused
        Slot* _slots
        object _due             # intended times that wait for the window, in an open loop
        bint _closed_loop
        readonly uint64_t accepted

        # As a recipient: the next number of each sender, and those that were jumped over.
        uint64_t* _expected
        uint32_t _senders
        set _missing
        uint64_t _tag, _acknowledged
        readonly uint64_t received

    cdef int flush(self) except -1
    cdef int _reserve(self, Py_ssize_t more) except -1
    cdef int _refill(self, uint64_t now) except -1
    cdef int _encode(self, uint64_t number) except -1
    cdef int _put(self, uint64_t number, uint64_t intended) except -1
    cdef int _frame(self, Cursor cursor, uint64_t now) except -1
    cdef int _result(self, Cursor part, uint64_t now) except -1
    cdef int _delivery(self, Cursor part, uint64_t now) except -1
    cdef int _arrived(self, uint32_t sender, uint64_t number) except -1
    cdef bint _may_send(self) noexcept
