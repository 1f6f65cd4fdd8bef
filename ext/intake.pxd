"""The receiving half of a WebSocket connection: bytes in, whole valid messages out, by way of picows."""

from libc.stdint cimport uint8_t, uint16_t, uint64_t

from picows.picows cimport WSFrame, WSTransport

from veredus.ext.framing cimport Fault, HEADER_MAX, Utf8
from veredus.ext.partial cimport Partial
from veredus.ext.station cimport Member, Station


cdef enum State:
    OPEN = 0
    CLOSING = 1   # our CLOSE is sent: what still comes is read and dropped, until the peer's CLOSE, its end, or the deadline
    LOST = 2      # or not begun


cdef class Intake(Member):
    cdef:
        readonly Station station
        object _parser                  # picows' WSProtocol, fed with whole valid frames only
        State _state

        # The frame being read: its header, and what is due of it.
        uint8_t[HEADER_MAX] _header
        uint8_t _have                   # header bytes so far
        uint8_t _need                   # header bytes in all, once two are there
        bint _in_payload
        bint _in_pieces                 # too large for one piece: goes on as fragments
        uint64_t _left                  # payload bytes due

        # picows' own read buffer: `_filled` bytes stand in it, the first `_ready` of them are whole frames it was not told of yet.
        uint8_t* _target
        Py_ssize_t _filled
        Py_ssize_t _ready
        Py_ssize_t _piece_at            # where the piece being filled begins; -1: none is
        Py_ssize_t _piece_left          # payload bytes due of it

        # The message being read.
        bint _takes_text
        bint _message_open
        bint _text
        Utf8 _utf8
        uint64_t _message_size
        Partial _partial
        double _began                   # when the unfinished message, or lone frame, began (station.now)

        bint _garbled                   # what the peer sends cannot be read any more, or need not
        bint _alive                     # a whole frame came in this read

    # What comes out. `data` dies with the call. Whatever these raise is told to station.report and closes with INTERNAL.
    cdef int receive(self, bint text, const uint8_t* data, Py_ssize_t size) except -1
    cdef int pinged(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int close_asked(self, uint16_t status) except -1        # a valid CLOSE; 1000 stands for none
    cdef int close_answered(self) except -1                      # the CLOSE after ours
    cdef int read_ended(self) except -1                          # everything that came in one read was received
    cdef void failed(self, int code) except *                    # the connection must close for what the peer did

    cdef void attach(self, object parser) except *
    cdef void consume(self, const uint8_t* data, Py_ssize_t size) except *   # one read
    cdef void end_read(self) except *
    cdef bint unfinished(self) noexcept
    cdef void forget(self) noexcept                              # what was half received

    cdef Fault _collect_header(self, const uint8_t** data, Py_ssize_t* size) noexcept
    cdef Fault _enter_payload(self) noexcept
    cdef void _begin_piece(self) except *
    cdef void _end_piece(self) except *
    cdef void _hand_over(self) except *
    cdef void _frame(self, WSFrame frame) except *
    cdef void _data_frame(self, WSFrame frame) except *
    cdef void _close_frame(self, uint8_t* frame) except *
