"""RFC 6455's rules of framing as pure functions on raw memory: what may follow what, which codes may close, what is text.

Owns no state beyond the structs its callers hold, allocates nothing, raises nothing: a breach is a number of the error catalogue.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


# Numbers of core's error catalogue that the transport itself can answer with (a test holds them equal).
cdef enum Fault:
    FINE = 0
    UNSUPPORTED_DATA = 2
    BUSY = 12
    TIMEOUT = 19
    INTERNAL = 20
    MESSAGE_TOO_BIG = 22
    INVALID_TEXT = 23
    PROTOCOL_VIOLATION = 24


cdef enum Opcode:
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


cdef enum:
    HEADER_MAX = 14           # client to server: 2 + 8 of length + 4 of mask
    SERVER_HEADER_MAX = 10    # server frames carry no mask
    CONTROL_MAX = 125         # section 5.5


cdef inline bint is_control(uint8_t first) noexcept nogil:
    return first & 0x08 != 0


cdef inline Fault check_opening(uint8_t first, uint8_t second, bint message_open) noexcept nogil:
    """What the first two bytes of a client's frame say already (sections 5.1, 5.2, 5.4, 5.5)."""
    cdef uint8_t opcode = first & 0x0F
    if first & 0x70 or not second & 0x80:   # no extension is negotiated; clients must mask
        return PROTOCOL_VIOLATION
    if is_control(first):
        if opcode > PONG or not first & 0x80 or second & 0x7F > CONTROL_MAX:
            return PROTOCOL_VIOLATION
    elif opcode > BINARY or (opcode == CONTINUATION) != message_open:
        return PROTOCOL_VIOLATION
    return FINE


cdef inline Py_ssize_t header_size(uint8_t second) noexcept nogil:
    """Bytes of a client's header, known from its second byte."""
    cdef uint8_t short_length = second & 0x7F
    return 6 if short_length < 126 else 8 if short_length == 126 else HEADER_MAX


cdef inline Fault read_length(const uint8_t* header, uint64_t* length) noexcept nogil:
    """The payload's length; lengths not written the shortest way are a breach (section 5.2)."""
    cdef uint8_t short_length = header[1] & 0x7F
    cdef int i
    if short_length < 126:
        length[0] = short_length
        return FINE
    if short_length == 126:
        length[0] = <uint64_t>header[2] << 8 | header[3]
        return FINE if length[0] >= 126 else PROTOCOL_VIOLATION
    length[0] = 0
    for i in range(2, 10):
        length[0] = length[0] << 8 | header[i]
    return FINE if 0xFFFF < length[0] < <uint64_t>1 << 63 else PROTOCOL_VIOLATION


cdef inline Py_ssize_t write_header(uint8_t* out, uint8_t first, uint64_t length) noexcept nogil:
    """A header without mask for `length` bytes; says how many bytes it took (at most 10)."""
    cdef int i
    out[0] = first
    if length < 126:
        out[1] = <uint8_t>length
        return 2
    if length <= 0xFFFF:
        out[1] = 126
        out[2] = <uint8_t>(length >> 8)
        out[3] = <uint8_t>length
        return 4
    out[1] = 127
    for i in range(8):
        out[2 + i] = <uint8_t>(length >> (56 - 8 * i))
    return SERVER_HEADER_MAX


cdef inline bint may_close_with(uint16_t code) noexcept nogil:
    """Codes an endpoint may send (section 7.4 and IANA's registry): 1004 to 1006 and 1015 are reserved, 1016 to 2999 unassigned."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


# Where a text stands between two of its pieces: continuation bytes still due, and the range the next byte must lie in.
cdef struct Utf8:
    uint8_t due
    uint8_t low
    uint8_t high


cdef inline bint utf8_step(Utf8* text, uint8_t byte) noexcept nogil:
    if text.due:
        if not text.low <= byte <= text.high:
            return False
        text.due -= 1
        text.low = 0x80
        text.high = 0xBF
        return True
    text.low = 0x80
    text.high = 0xBF
    if byte < 0x80:
        return True
    if 0xC2 <= byte <= 0xDF:
        text.due = 1
    elif 0xE0 <= byte <= 0xEF:
        text.due = 2
        if byte == 0xE0:        # not longer than needed
            text.low = 0xA0
        elif byte == 0xED:      # no surrogates
            text.high = 0x9F
    elif 0xF0 <= byte <= 0xF4:
        text.due = 3
        if byte == 0xF0:
            text.low = 0x90
        elif byte == 0xF4:      # not above U+10FFFF
            text.high = 0x8F
    else:
        return False
    return True


cdef inline bint utf8_take(Utf8* text, const uint8_t* data, Py_ssize_t size) noexcept nogil:
    """Whether `data` may follow what came before. A text is complete when nothing is due."""
    cdef Py_ssize_t i
    for i in range(size):
        if (data[i] & 0x80 or text.due) and not utf8_step(text, data[i]):
            return False
    return True
