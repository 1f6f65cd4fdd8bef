"""What waits to be written on one connection: WebSocket messages in one piece of memory, so that they leave in one write.

Owns the order of kinds and the limits of one message (SYN-5). An idle connection has no outbox: it borrows one from its worker's pool for
the rest of a loop iteration. Never writes to a socket, never refuses: limits of what may wait are its caller's.

Theory of operation. Almost always everything queued in one iteration is one ServerFrame; it is written where it was built, its header put
into the room before it. Only when a kind falls, a message is full or a control frame is sent, frames are sealed: copied, header first, to
one run of bytes that the last frame joins at the flush.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from veredus.ext.frames cimport FrameWriter
from veredus.ext.framing cimport BINARY, SERVER_HEADER_MAX, write_header
from veredus.ext.outbox cimport DELIVERY


cdef enum:
    SMALLEST = 1024
    KEPT = 65536   # as FrameWriter keeps it


cdef class Outbox:
    """Messages waiting for the end of the loop iteration."""

    def __init__(self, Py_ssize_t max_deliveries, Py_ssize_t max_bytes) -> None:
        self._frame = FrameWriter()
        self.max_deliveries = max_deliveries
        self.max_bytes = max_bytes

    def __dealloc__(self):
        free(self._sealed)

    cpdef FrameWriter frame(self, int kind, Py_ssize_t size=0):
        if self._frame.size and (
            kind < self._kind
            or self._frame.size + size > self.max_bytes
            or (kind == DELIVERY and self._deliveries >= self.max_deliveries)
        ):
            self._seal()
        self._kind = kind
        self._deliveries += kind == DELIVERY
        return self._frame

    cdef int message(self, uint8_t opcode, const void* payload, Py_ssize_t size) except -1:
        cdef uint8_t* out
        self._seal()
        out = self._room(SERVER_HEADER_MAX + size)
        out += write_header(out, 0x80 | opcode, size)
        if size:
            memcpy(out, payload, size)
        self._size = out - self._sealed + size
        return 0

    cdef uint8_t* finish(self, Py_ssize_t* size) except? NULL:
        cdef uint8_t[SERVER_HEADER_MAX] header
        cdef uint8_t* start
        cdef Py_ssize_t length
        if self._size:
            self._seal()
            size[0] = self._size
            return self._sealed
        size[0] = self._frame.size
        if not self._frame.size:
            return NULL
        length = write_header(header, 0x80 | BINARY, self._frame.size)
        start = self._frame.frame() - length
        memcpy(start, header, length)
        size[0] += length
        return start

    cdef Py_ssize_t queued(self) noexcept:
        return self._size + self._frame.size

    cdef void clear(self) noexcept:
        self._frame.clear()
        self._deliveries = 0
        self._size = 0
        if self._capacity > KEPT:
            free(self._sealed)
            self._sealed = NULL
            self._capacity = 0

    cdef int _seal(self) except -1:
        cdef uint8_t* out
        cdef Py_ssize_t size = self._frame.size
        if size:
            out = self._room(SERVER_HEADER_MAX + size)
            out += write_header(out, 0x80 | BINARY, size)
            memcpy(out, self._frame.frame(), size)
            self._size = out - self._sealed + size
            self._frame.clear()
        self._deliveries = 0
        return 0

    cdef uint8_t* _room(self, Py_ssize_t size) except NULL:
        """Room for `size` bytes behind what is sealed."""
        cdef Py_ssize_t capacity
        cdef uint8_t* sealed
        if self._size + size > self._capacity:
            capacity = max(SMALLEST, self._size + size, self._capacity * 2)
            sealed = <uint8_t*>realloc(self._sealed, capacity)
            if sealed == NULL:
                raise MemoryError
            self._sealed = sealed
            self._capacity = capacity
        return self._sealed + self._size

    # The rest from Python, for tests and tools.

    def add_message(self, int opcode, bytes payload) -> None:
        """Queue a message of its own."""
        self.message(<uint8_t>opcode, <const char*>payload, len(payload))

    def take(self) -> bytes:
        """Everything queued, as it goes on the wire; the outbox is empty afterwards."""
        cdef Py_ssize_t size
        cdef uint8_t* data = self.finish(&size)
        cdef bytes taken = (<char*>data)[:size] if size else b""
        self.clear()
        return taken

    @property
    def size(self) -> int:
        """Bytes queued, headers of the last frame excluded."""
        return self.queued()
