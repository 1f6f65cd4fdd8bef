"""Simulated devices of the load generator: what a client does per message, in C, so that the generator does not hide the server.

Owns what it sent and what it expects: every device checks that each message of each sender comes exactly once and in order. Opens no
connection, reads no clock but the one it was given, decides no pace. For benchmarks only; real clients use `veredus.client`.

Theory of operation. What one read brings is answered in one WebSocket message: an acknowledgement up to the last delivery, and as many sends
as the window allows. Contents begin with a stamp (run, sender, number in its stream, intended time) and go on with random bytes. A client id
ends in the number, so that an answer finds its send without a table. After a retryable refusal everything that was refused is sent again in
its order, behind RESUME.
"""

from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from picows.picows cimport WSMsgType

from veredus.ext.wire cimport (
    DELIMITED, OK, VARINT, Flat, bytes_field_size, load64, put_bytes_field, put_head, put_varint_field, scan_flat, skip_field, slice_size,
    store64, take_slice, take_tag, take_varint, varint_field_size,
)


cdef enum:
    HEADROOM = 14       # a client's WebSocket header
    FREE = 0
    FLYING = 1
    REFUSED = 2
    CODE_SENT = 0
    CODE_BUSY = 12      # the first of the three that are worth a repeat on the same connection: BUSY, RATE_LIMITED, UNAVAILABLE
    CODE_UNAVAILABLE = 14


cdef inline uint64_t mixed(uint64_t value) noexcept nogil:
    """A number that looks random (the finalizer of splitmix64)."""
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef class Run:
    """What all devices of a process share."""

    def __init__(self, clock, bytes filler not None, uint64_t nonce, int32_t type, Py_ssize_t payload) -> None:
        if len(filler) < FILLER or not STAMP <= payload <= FILLER // 2:
            raise ValueError(f"the filler has at least {FILLER} bytes, a payload {STAMP} to {FILLER // 2}")
        self._clock = clock
        self._filler = filler
        self.nonce = nonce
        self.type = type
        self.payload = payload
        self.sent_latency = Histogram()
        self.delivered_latency = Histogram()

    cdef uint64_t now(self) except? 0:
        return self._clock()


cdef class Device(WSListener):
    """One connection. `told(device, event)` hears of greeted, drained, refused and lost."""

    def __init__(self, Run run not None, uint32_t number, uint32_t senders, told) -> None:
        self.run = run
        self.number = number
        self._told = told
        self._senders = senders
        self._missing = set()

    def __dealloc__(self):
        PyMem_Free(self._out)
        free(self._slots)
        free(self._expected)

    # ------------------------------------------------------------------------------------------------------------------- as a sender

    def aim(self, bytes destinations not None, uint64_t window, uint64_t limit=0) -> None:
        """Make it a sender, to device 1 of each of these accounts in turn; `limit` sends in all, 0: no end."""
        if self._slots != NULL or not destinations or len(destinations) % 16 or not 0 < window <= 1 << 20:
            raise ValueError("accounts of 16 bytes and a window, once")
        self._destinations = destinations
        self._streams = <uint64_t>len(destinations) // 16
        self._window = window
        self._limit = limit
        self._places = window * SPREAD
        self._due = deque()
        self._slots = <Slot*>calloc(<size_t>self._places, sizeof(Slot))
        if self._slots == NULL:
            raise MemoryError

    def start(self) -> None:
        """Keep the window full from now on."""
        self._closed_loop = True
        self._refill(self.run.now())
        self.flush()

    def send(self, uint64_t intended) -> None:
        """Send one message that was to leave at `intended`; it waits when the window is full."""
        if self._may_send() and not self._due:
            self._put(self._next, intended)
            self.flush()
        else:
            self._due.append(intended)

    def halt(self) -> None:
        """Send nothing more; what is refused is still sent again."""
        self._closed_loop = False
        self._due.clear()

    def resume(self) -> None:
        """Send again what was refused, in its order."""
        cdef uint64_t number
        cdef uint8_t* out
        if not self._refused or self.flying or self._transport is None:
            return
        self._reserve(2)
        out = self._out + HEADROOM + self._size
        out[0] = 1 << 3 | DELIMITED
        out[1] = 0
        self._size += 2
        self._refused = 0
        for number in range(self._base, self._next):
            if self._slots[number % self._places].state == REFUSED:
                self._slots[number % self._places].state = FLYING
                self.flying += 1
                self._encode(number)
        self.flush()

    @property
    def waiting(self) -> int:
        """Sends without an answer, refused and due ones included."""
        return self.flying + self._refused + (len(self._due) if self._due is not None else 0)

    @property
    def finished(self) -> bool:
        """The limit of sends is reached and all are answered."""
        return self._limit != 0 and self._next >= self._limit and not self.flying and not self._refused

    cdef bint _may_send(self) noexcept:
        return (
            self._transport is not None and self.flying < self._window and self._refused == 0
            and self._next - self._base < self._places and (self._limit == 0 or self._next < self._limit)
        )

    cdef int _refill(self, uint64_t now) except -1:
        if self._closed_loop:
            while self._may_send():
                self._put(self._next, now)
        elif self._due is not None:
            while self._due and self._may_send():
                self._put(self._next, self._due.popleft())
        return 0

    cdef int _put(self, uint64_t number, uint64_t intended) except -1:
        cdef Slot* slot = &self._slots[number % self._places]
        slot.intended = intended
        slot.state = FLYING
        self._next = number + 1
        self.flying += 1
        return self._encode(number)

    cdef int _encode(self, uint64_t number) except -1:
        """A Send, as `frames.encode_send` would make it."""
        cdef Run run = self.run
        cdef uint64_t stream = number % self._streams
        cdef uint64_t intended = self._slots[number % self._places].intended
        cdef uint64_t at = mixed(run.nonce + number * 2 + self.number) % <uint64_t>(FILLER - run.payload)
        cdef uint64_t timestamp = intended // 1000000
        cdef Py_ssize_t inner = 2 + slice_size(run.payload)
        cdef Py_ssize_t size = 2 * slice_size(16) + varint_field_size(run.type) + varint_field_size(timestamp) + slice_size(inner)
        cdef uint8_t[16] client_id
        cdef uint8_t* out
        if self._size > FRAME_BYTES:
            self.flush()
        self._reserve(slice_size(size))
        store64(client_id, mixed(run.nonce ^ (number << 20) ^ self.number))
        store64(client_id + 8, number ^ run.nonce)
        out = put_head(self._out + HEADROOM + self._size, 2 << 3 | DELIMITED, size)
        out = put_bytes_field(out, 1 << 3 | DELIMITED, client_id, 16)
        out = put_bytes_field(out, 2 << 3 | DELIMITED, PyBytes_AS_STRING(self._destinations) + 16 * stream, 16)
        out = put_varint_field(out, 3 << 3 | VARINT, <uint64_t>run.type)
        out = put_varint_field(out, 4 << 3 | VARINT, timestamp)
        out = put_head(out, 7 << 3 | DELIMITED, inner)
        out = put_varint_field(out, 1 << 3 | VARINT, 1)
        out = put_head(out, 3 << 3 | DELIMITED, run.payload)
        memcpy(out, PyBytes_AS_STRING(run._filler) + at, run.payload)
        store64(out, run.nonce)
        store64(out + 8, self.number)
        store64(out + 16, number // self._streams)
        store64(out + 24, intended)
        self._size += slice_size(size)
        return 0

    cdef int _result(self, Cursor part, uint64_t now) except -1:
        cdef Flat flat
        cdef Run run = self.run
        cdef Slot* slot
        cdef uint64_t number, code
        memset(&flat, 0, sizeof(Flat))
        if scan_flat(part, 1 << 2, 0, 1 << 1, 1, &flat) != OK or flat.slices[1].left != 16 or self._slots == NULL:
            run.malformed += 1
            return 0
        number = load64(flat.slices[1].ptr + 8) ^ run.nonce
        slot = &self._slots[number % self._places]
        if not self._base <= number < self._next or slot.state != FLYING:
            run.malformed += 1      # answered twice, or never asked
            return 0
        self.flying -= 1
        code = flat.numbers[2]
        if CODE_BUSY <= code <= CODE_UNAVAILABLE:
            slot.state = REFUSED
            self._refused += 1
            run.refused += 1
            if self.flying == 0:
                self._told(self, "refused")
            return 0
        slot.state = FREE
        if code == CODE_SENT:
            self.accepted += 1
            run.accepted += 1
            if run.recording:
                run.sent_latency.add(now - slot.intended)
        else:
            run.failed += 1
        while self._base < self._next and self._slots[self._base % self._places].state == FREE:
            self._base += 1
        if self._refused and self.flying == 0:
            self._told(self, "refused")
        return 0

    # ---------------------------------------------------------------------------------------------------------------- as a recipient

    def lost_of(self, uint32_t sender, uint64_t accepted) -> int:
        """How many of the first `accepted` messages of a sender's stream to this device never came."""
        cdef uint64_t expected = self._expected[sender] if self._expected != NULL and sender < self._senders else 0
        gaps = sum(1 for who, number in self._missing if who == sender)
        return gaps + (accepted - expected if accepted > expected else 0)

    cdef int _delivery(self, Cursor cursor, uint64_t now) except -1:
        cdef Flat flat
        cdef Run run = self.run
        cdef Cursor part
        cdef Cursor* content = &flat.slices[10]
        cdef uint32_t tag = 0
        cdef uint64_t delivery_tag = 0
        memset(&flat, 0, sizeof(Flat))
        while cursor.left > 0:
            if take_tag(&cursor, &tag) != OK:
                break
            if tag == (2 << 3 | DELIMITED):
                if take_slice(&cursor, &part) != OK or scan_flat(part, 0, 0, 1 << 10, 2, &flat) != OK:
                    break
            elif tag == (1 << 3 | VARINT):
                if take_varint(&cursor, &delivery_tag) != OK:
                    break
            elif skip_field(&cursor, tag, 1) != OK:
                break
        self.received += 1
        if cursor.left or delivery_tag != self._tag + 1:
            run.malformed += 1
        self._tag = max(self._tag, delivery_tag)
        if content.left < STAMP or load64(content.ptr) != run.nonce or load64(content.ptr + 8) >= self._senders:
            run.foreign += 1
            return 0
        run.delivered += 1
        if run.recording:
            run.delivered_latency.add(now - load64(content.ptr + 24))
        return self._arrived(<uint32_t>load64(content.ptr + 8), load64(content.ptr + 16))

    cdef int _arrived(self, uint32_t sender, uint64_t number) except -1:
        """Check one message against what this sender's stream is to bring next."""
        cdef uint64_t expected
        if self._expected == NULL:
            self._expected = <uint64_t*>calloc(self._senders, sizeof(uint64_t))
            if self._expected == NULL:
                raise MemoryError
        expected = self._expected[sender]
        if number >= expected:
            if number > expected:
                self._missing.update([(sender, skipped) for skipped in range(expected, min(number, expected + 10000))])
            self._expected[sender] = number + 1
        elif (sender, number) in self._missing:
            self._missing.discard((sender, number))
            self.run.reordered += 1
        else:
            self.run.duplicated += 1
        return 0

    # ---------------------------------------------------------------------------------------------------------------------- frames

    cpdef on_ws_connected(self, WSTransport transport):
        self._transport = transport

    cpdef on_ws_disconnected(self, WSTransport transport):
        self._transport = None
        self._told(self, "lost")

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        cdef uint64_t now
        if frame.msg_type == WSMsgType.BINARY and frame.fin:
            now = self.run.now()
            self._frame(Cursor(<const uint8_t*>frame.payload_ptr, frame.payload_size), now)
            if frame.last_in_buffer:
                if self._slots != NULL:
                    self._refill(now)
                self.flush()
        elif frame.msg_type == WSMsgType.CLOSE:
            self.close_code = <int>frame.get_close_code()
            transport.send_close()
            transport.disconnect()
        elif frame.msg_type != WSMsgType.PING and frame.msg_type != WSMsgType.PONG:
            self.run.malformed += 1

    cpdef pause_writing(self):
        pass    # what waits is bounded by the window

    cpdef resume_writing(self):
        pass

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.disconnect(False)

    cdef int _frame(self, Cursor cursor, uint64_t now) except -1:
        cdef uint32_t tag = 0
        cdef Cursor part
        while cursor.left > 0:
            if take_tag(&cursor, &tag) != OK or tag & 7 != DELIMITED or take_slice(&cursor, &part) != OK:
                self.run.malformed += 1
                return 0
            if tag >> 3 == 2:
                self._result(part, now)
            elif tag >> 3 == 3:
                self._delivery(part, now)
            elif tag >> 3 == 1:
                self._told(self, "greeted")
            elif tag >> 3 == 4:
                self._told(self, "drained")
            elif tag >> 3 == 5:
                self.run.errors += 1
        return 0

    cdef int flush(self) except -1:
        """One WebSocket message with everything that waits."""
        cdef uint8_t* out
        cdef Py_ssize_t inner
        if self._tag > self._acknowledged:
            inner = varint_field_size(self._tag)
            self._reserve(slice_size(inner))
            out = put_head(self._out + HEADROOM + self._size, 3 << 3 | DELIMITED, inner)
            put_varint_field(out, 3 << 3 | VARINT, self._tag)
            self._size += slice_size(inner)
            self._acknowledged = self._tag
        if self._size and self._transport is not None:
            self._transport.send_reuse_external_buffer(WSMsgType.BINARY, <char*>self._out + HEADROOM, self._size)
        self._size = 0
        return 0

    cdef int _reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity
        cdef void* memory
        if self._size + more > self._capacity:
            capacity = max(64, 2 * self._capacity, self._size + more)
            memory = PyMem_Realloc(self._out, <size_t>(HEADROOM + capacity))
            if memory == NULL:
                raise MemoryError
            self._out = <uint8_t*>memory
            self._capacity = capacity
        return 0
