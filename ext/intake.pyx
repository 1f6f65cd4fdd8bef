"""The receiving half of a WebSocket connection: bytes in, whole valid messages out, by way of picows.

Owns framing, fragments and their memory, and RFC 6455's rules that picows leaves open. Never writes, never decides how a connection ends:
it says what the peer did.

Theory of operation
- `consume` walks the bytes of one read, judges each frame's header before anything else sees it, and copies whole frames into picows' own
  small buffer. That buffer therefore never grows (picows never gives memory back) and never holds a malformed frame (picows reads one frame
  ahead, and would answer the bad one before the good one before it was delivered).
- A frame too large for that buffer goes on as fragments under the same mask: their sizes are multiples of four. So every larger message is
  put together in one place, `_data_frame`, and charged to the worker's budget as it comes, never as it is announced.
- CLOSE alone does not go through picows, which lets 1006 and codes above 4999 pass and knows no second CLOSE.
"""

from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy, memmove
from picows.picows cimport WSFrame, WSMsgType, WSTransport

from veredus.ext.framing cimport (
    BUSY, CLOSE, CONTINUATION, FINE, Fault, INTERNAL, INVALID_TEXT, MESSAGE_TOO_BIG, PROTOCOL_VIOLATION, TEXT, TIMEOUT, UNSUPPORTED_DATA, Utf8,
    check_opening, header_size, is_control, may_close_with, read_length, utf8_take, write_header,
)
from veredus.ext.intake cimport LOST, OPEN
from veredus.ext.partial cimport Partial, partial_append, partial_release
from veredus.ext.station cimport Member, Station


cdef enum:
    # picows' buffer begins at 2,048 bytes, of which it offers 1,792, and doubles when fewer than 257 of them stay free
    # (tests/integration/test_picows_contract.py): never put more in.
    TARGET = 1535
    SPARE = 257
    # Payload of a piece of a large frame: with its eight bytes of header it fits into TARGET. A multiple of four keeps the mask in step.
    PIECE = 1520
    # Header of a piece: two bytes, two of length, four of mask.
    PIECE_HEADER = 8

# Held equal to the error catalogue by a test.
FAULTS = {
    "UNSUPPORTED_DATA": UNSUPPORTED_DATA, "BUSY": BUSY, "TIMEOUT": TIMEOUT, "INTERNAL": INTERNAL, "MESSAGE_TOO_BIG": MESSAGE_TOO_BIG,
    "INVALID_TEXT": INVALID_TEXT, "PROTOCOL_VIOLATION": PROTOCOL_VIOLATION,
}


cdef class Intake(Member):
    """Bytes in, messages out."""

    def __init__(self, Station station, bint takes_text) -> None:
        self.station = station
        self._takes_text = takes_text
        self._state = LOST
        self._piece_at = -1

    def __dealloc__(self):
        if self._partial.data != NULL:
            partial_release(&self._partial, self.station.budget)

    cdef void attach(self, object parser) except *:
        cdef object offered = parser.get_buffer(-1)
        if len(offered) < TARGET + SPARE:
            raise RuntimeError("picows' read buffer is not the one this was written for")
        self._parser = parser
        self._target = <uint8_t*>PyMemoryView_GET_BUFFER(offered).buf   # moves only when it grows
        self._state = OPEN

    cdef void forget(self) noexcept:
        partial_release(&self._partial, self.station.budget)
        self._message_open = False

    cdef bint unfinished(self) noexcept:
        return self._have > 0 or self._message_open

    # ----------------------------------------------------------------------------------------------------------------- one read

    cdef void consume(self, const uint8_t* data, Py_ssize_t size) except *:
        cdef Fault fault = FINE
        cdef Py_ssize_t step
        self.station.reads += 1
        self._alive = False
        # A frame without payload ends where its header does: one more round without bytes.
        while (size > 0 or (self._in_payload and self._left == 0)) and self._state != LOST and not self._garbled:
            if not self._in_payload:
                fault = self._collect_header(&data, &size)
                if fault != FINE:
                    self._garbled = True
                    break
                if not self._in_payload:
                    break
            if self._piece_at < 0:
                self._begin_piece()
            step = min(size, self._piece_left)
            memcpy(self._target + self._filled, data, step)
            data += step
            size -= step
            self._filled += step
            self._piece_left -= step
            self._left -= <uint64_t>step
            if self._piece_left == 0:
                self._end_piece()
        self._hand_over()
        if fault == FINE:
            self.end_read()
        else:
            self.failed(fault)

    cdef void end_read(self) except *:
        if self._state != OPEN:
            return
        try:
            self.read_ended()
        except Exception as fault:
            self.station.report(fault)
            self.failed(INTERNAL)

    cdef Fault _collect_header(self, const uint8_t** data, Py_ssize_t* size) noexcept:
        """Take header bytes; when the header is whole, enter the payload. What two bytes tell is judged at once."""
        cdef Fault fault
        if self._have == 0 and not self._message_open:
            self._began = self.station.now
        while size[0] > 0:
            self._header[self._have] = data[0][0]
            self._have += 1
            data[0] += 1
            size[0] -= 1
            if self._have == 2:
                fault = check_opening(self._header[0], self._header[1], self._message_open)
                if fault == FINE and self._header[0] & 0x0F == TEXT and not self._takes_text:
                    fault = UNSUPPORTED_DATA
                if fault != FINE:
                    return fault
                self._need = <uint8_t>header_size(self._header[1])
            if self._have >= 2 and self._have == self._need:
                return self._enter_payload()
        return FINE

    cdef Fault _enter_payload(self) noexcept:
        cdef uint64_t limit = <uint64_t>self.station.message_bytes
        cdef Fault fault = read_length(self._header, &self._left)
        if fault != FINE:
            return fault
        if not is_control(self._header[0]):
            if not self._message_open:
                self._message_size = 0
            if self._left > limit or self._message_size + self._left > limit:
                return MESSAGE_TOO_BIG
            self._message_size += self._left
            self._message_open = True
        self._in_payload = True
        self._in_pieces = self._left > PIECE
        return FINE

    cdef void _begin_piece(self) except *:
        """Put the header of the frame, or of the next piece of it, into picows' buffer."""
        cdef Py_ssize_t length = PIECE if self._in_pieces and self._left > PIECE else <Py_ssize_t>self._left
        cdef uint8_t first = self._header[0]
        cdef uint8_t* out
        if self._filled + PIECE_HEADER + length > TARGET:
            self._hand_over()
        if <uint64_t>length < self._left:
            first &= 0x7F                     # not the last piece
            self._header[0] &= 0xF0           # what follows are CONTINUATIONs; FIN stays for the last
        self._piece_at = self._filled
        self._piece_left = length
        out = self._target + self._filled
        out += write_header(out, first, length)
        (out - (2 if length < 126 else 4))[1] |= 0x80
        memcpy(out, self._header + self._need - 4, 4)
        self._filled = out + 4 - self._target

    cdef void _end_piece(self) except *:
        cdef uint8_t first = self._header[0]
        cdef Py_ssize_t at = self._piece_at
        self._piece_at = -1
        if self._left == 0:
            self._in_payload = False
            self._have = 0
            self._alive = True
            if first & 0x80 and not is_control(first):
                self._message_open = False
        if first & 0x0F == CLOSE:
            self._hand_over()                 # what came before it; the CLOSE is first in the buffer now
            self._close_frame(self._target)
            self._filled = 0
        elif self._state == OPEN:
            self._ready = self._filled
        else:
            self._filled = at

    cdef void _hand_over(self) except *:
        """Let picows read the whole frames that stand in its buffer; an unfinished one moves to the front and waits."""
        cdef Py_ssize_t ready = self._ready
        if ready == 0:
            return
        self._ready = 0
        self._parser.buffer_updated(ready)
        self._filled -= ready
        memmove(self._target, self._target + ready, self._filled)
        if self._piece_at >= 0:
            self._piece_at -= ready

    # ---------------------------------------------------------------------------------------------------------------- one frame

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self._state != OPEN:
            return
        try:
            self._frame(frame)
        except Exception as fault:
            self.station.report(fault)
            self.failed(INTERNAL)

    cdef void _frame(self, WSFrame frame) except *:
        if frame.msg_type == WSMsgType.PING:
            self.pinged(<const uint8_t*>frame.payload_ptr, frame.payload_size)
        elif frame.msg_type != WSMsgType.PONG:
            self._data_frame(frame)

    cdef void _data_frame(self, WSFrame frame) except *:
        cdef const uint8_t* data = <const uint8_t*>frame.payload_ptr
        cdef Partial whole
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._text = frame.msg_type == WSMsgType.TEXT
            self._utf8.due = 0
        if self._text and (not utf8_take(&self._utf8, data, frame.payload_size) or (frame.fin and self._utf8.due)):
            self.failed(INVALID_TEXT)
        elif frame.fin and self._partial.size == 0:
            self.station.messages += 1
            self.receive(self._text, data, frame.payload_size)
        elif not partial_append(&self._partial, frame.payload_ptr, frame.payload_size, self.station.budget):
            self.failed(BUSY)
        elif frame.fin:
            # Out of the connection first: whoever receives it may close.
            whole = self._partial
            self._partial.data = NULL
            self._partial.size = self._partial.capacity = 0
            self.station.messages += 1
            try:
                self.receive(self._text, <const uint8_t*>whole.data, whole.size)
            finally:
                partial_release(&whole, self.station.budget)

    cdef void _close_frame(self, uint8_t* frame) except *:
        """The peer's CLOSE, still masked."""
        cdef Py_ssize_t size = frame[1] & 0x7F
        cdef uint8_t* payload = frame + 6
        cdef uint16_t status = 1000   # an empty CLOSE has no status, and 1005 may not be sent (section 7.4.1)
        cdef Utf8 reason
        cdef Py_ssize_t i
        if self._state != OPEN:
            self._garbled = True
            self.close_answered()
            return
        self._garbled = True          # what follows a CLOSE is ignored
        for i in range(size):
            payload[i] ^= frame[2 + (i & 3)]
        if size:
            status = <uint16_t>(payload[0] << 8 | payload[1]) if size > 1 else 0
            reason.due = 0
            if not may_close_with(status):
                self.failed(PROTOCOL_VIOLATION)
                return
            if not utf8_take(&reason, payload + 2, size - 2) or reason.due:
                self.failed(INVALID_TEXT)
                return
        self.end_read()
        self.close_asked(status)

    # ------------------------------------------------------------------------------------------------------------ what comes out

    cdef int receive(self, bint text, const uint8_t* data, Py_ssize_t size) except -1:
        raise NotImplementedError

    cdef int pinged(self, const uint8_t* data, Py_ssize_t size) except -1:
        raise NotImplementedError

    cdef int close_asked(self, uint16_t status) except -1:
        raise NotImplementedError

    cdef int close_answered(self) except -1:
        raise NotImplementedError

    cdef int read_ended(self) except -1:
        raise NotImplementedError

    cdef void failed(self, int code) except *:
        raise NotImplementedError
