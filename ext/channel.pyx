"""One WebSocket connection from its 101 to its end.

Owns the handshake's last step, the closing handshake, heartbeat (CON-19), what is written and when. Knows nothing of what messages mean,
reads no clock, holds no task and no timer of its own, and lets no exception of a handler out.

Theory of operation
- What is sent waits in an outbox, borrowed from the station, which flushes all touched connections once per loop iteration. What the
  kernel does not take waits in the transport: the backlog.
- OPEN → CLOSING when our CLOSE is sent, for whatever reason → LOST when the transport is gone. While CLOSING the sending side is shut and
  what still comes is read and dropped: closing with unread bytes would reset the connection, and the peer would lose the CLOSE with them.
  The peer's CLOSE, its end or `closing_seconds` ends that.
- A peer that pings lives while frames come; one that does not is pinged when it was silent. Any frame counts as life.
"""

from picows import WSAutoPingStrategy, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t
from picows.picows cimport WSCloseCode, WSTransport

from veredus.ext.channel cimport BY_BACKLOG, BY_OWNER
from veredus.ext.framing cimport BINARY, INTERNAL, PING, PONG, TEXT, TIMEOUT
from veredus.ext.intake cimport CLOSING, Intake, LOST, OPEN
from veredus.ext.outbox cimport Outbox
from veredus.ext.station cimport Station


cdef enum:
    # Pongs between two flushes; above it only the newest ping is answered, which section 5.5.3 allows.
    PONGS = 64
    # Frames picows is given are no larger than a piece; its limit is a second lock on the same door.
    PICOWS_FRAME = 2048
    # In place of a time.
    NO_PING = -1


cdef class Channel(Intake):
    """A connection whose messages go to `on_message`. Subclass it, in Python or on the C methods it declares."""

    # ------------------------------------------------------------------------------------------------------------- beginning and end

    def begin(self, object transport, bytes key, str subprotocol) -> None:
        """Answer the upgrade, which was judged already, with 101 and take the transport over. `key` is Sec-WebSocket-Key."""
        cdef Py_ssize_t half = self.station.outbox_bytes // 2
        cdef object parser
        cdef bytes head
        headers = [("Sec-WebSocket-Protocol", subprotocol)] if subprotocol else None
        parser = WSProtocol(
            None, None, False, lambda _: WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(headers), self),
            self.station.quiet, True, None, False, 0, 0, WSAutoPingStrategy.PING_WHEN_IDLE, False, PICOWS_FRAME, None, 2048,
        )
        # Nothing of what the peer wrote but the key: picows refuses Firefox's `Connection: keep-alive, Upgrade`, and keeps all headers.
        head = (
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % key
        )
        self._transport = transport
        transport.set_write_buffer_limits(high=half, low=half)   # has_room() counts on a sign at exactly half
        parser.connection_made(transport)
        parser.get_buffer(-1)[: len(head)] = head
        parser.buffer_updated(len(head))
        self.attach(parser)
        self._last_in = self.station.now
        self._pinged_at = NO_PING
        self.station.enter(self)
        transport.set_protocol(self)

    cpdef on_ws_connected(self, WSTransport transport):
        self._wire = transport
        # What the handshake left behind: 2 kB that no one asks for again, and 1 kB that all can share.
        transport.request = None
        transport.response = None
        transport._write_buffer = self.station.write_buffer

    def data_received(self, bytes data) -> None:
        """Bytes that came before the transport was taken over.

        Under this name, because uvloop keeps the last protocol alive by its `data_received` until another protocol brings one.
        """
        if data:
            self.consume(<const uint8_t*><const char*>data, len(data))

    def connection_lost(self, exc) -> None:
        """asyncio's callback: the transport is gone."""
        self._state = LOST
        self._parser.connection_lost(exc)
        self.station.leave(self)
        self.forget()
        self._release_outbox()
        # Parser, transport and connection point at each other.
        self._parser = self._wire = self._transport = None
        self._target = NULL
        try:
            self.lost()
        except Exception as fault:
            self.station.report(fault)

    def eof_received(self) -> bool:
        """asyncio's callback: the peer sends no more. What is queued still goes out."""
        self.flush()
        return False

    cdef void drop(self) except *:
        if self._transport is not None:
            self._transport.abort()

    cdef bint is_open(self) noexcept:
        return self._state == OPEN

    # -------------------------------------------------------------------------------------------------------------------- reading

    def get_buffer(self, Py_ssize_t size_hint) -> memoryview:
        """asyncio's callback: where to read to."""
        return self.station.scratch_view

    def buffer_updated(self, Py_ssize_t size) -> None:
        """asyncio's callback: so much was read."""
        self.consume(self.station.scratch, size)
        if self._alive:
            self._last_in = self.station.now
            self._pinged_at = NO_PING

    cdef int pinged(self, const uint8_t* data, Py_ssize_t size) except -1:
        self._pings_itself = True
        self._pongs += 1
        if self._backlog > self.station.outbox_bytes:
            self.station.pongs_dropped += 1   # it does not read what it asked for
        elif self._pongs <= PONGS:
            self.outbox().message(PONG, data, size)
        else:
            self.station.pongs_dropped += self._late_pong is not None
            self._late_pong = PyBytes_FromStringAndSize(<const char*>data, size)
        return 0

    cdef void _pause(self, uint8_t why) except *:
        if self._state == OPEN:
            if not self._paused:
                self._transport.pause_reading()
            self._paused |= why

    cdef void _resume(self, uint8_t why) except *:
        if self._state == OPEN and self._paused & why:
            self._paused &= ~why
            if not self._paused:
                self._transport.resume_reading()

    # ------------------------------------------------------------------------------------------------------------------- closing

    cdef void shut(self, int code) except *:
        cdef tuple closing
        if self._state == OPEN:
            closing = self.station.closing(code)
            self._say_close(<uint16_t><int>closing[0], <bytes>closing[1])

    cdef void failed(self, int code) except *:
        if self._state != OPEN:
            return
        try:
            self.read_ended()   # what came before it stands
        except Exception as fault:
            self.station.report(fault)
        self.shut(code)

    cdef int close_asked(self, uint16_t status) except -1:
        self._say_close(status, b"")
        if self._transport is not None and not self._transport.can_write_eof():
            self._transport.close()
        return 0

    cdef int close_answered(self) except -1:
        self._transport.close()
        return 0

    cdef void _say_close(self, uint16_t status, bytes reason) except *:
        if self._state != OPEN:
            return
        self.flush()
        if self._transport.is_closing():
            return
        self._state = CLOSING
        self._closing_at = self.station.now
        self.forget()
        self._wire.send_close(<WSCloseCode>status, reason)
        if self._paused:
            self._paused = 0
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    # ------------------------------------------------------------------------------------------------------------------- writing

    cdef Outbox outbox(self):
        if self._outbox is None:
            self._outbox = self.station.borrow()
        if not self._dirty:
            self._dirty = True
            self.station.touch(self)
        return self._outbox

    cdef bint has_room(self, Py_ssize_t size) except -1:
        """Whether `size` bytes more may be queued. False: nothing may, and writable() follows.

        Up to half of the limit anything is taken: the transport tells when it has drained to that mark, never below it.
        """
        cdef Py_ssize_t limit = self.station.outbox_bytes
        cdef Py_ssize_t queued = self._outbox.queued() if self._outbox is not None else 0
        if queued + self._backlog + size <= limit or queued + self._backlog <= limit // 2:
            return True
        if self._backlog:
            self._backlog = self._transport.get_write_buffer_size()
            if queued + self._backlog + size <= limit or queued + self._backlog <= limit // 2:
                return True
        self._blocked = True
        return False

    cdef void flush(self) except *:
        self._dirty = False
        if self._state != OPEN:
            self._release_outbox()
            return
        try:
            self._write()
        except Exception as fault:
            self._release_outbox()
            self.station.report(fault)
            self.drop()
            return
        if self._backlog > 2 * self.station.outbox_bytes:
            self._pause(BY_BACKLOG)
        self._unblock()

    cdef void _write(self) except *:
        cdef Py_ssize_t size
        cdef uint8_t* data
        if self._late_pong is not None:
            self.outbox().message(PONG, <const char*>self._late_pong, len(self._late_pong))
            self._late_pong = None
            self._dirty = False
        self._pongs = 0
        if self._outbox is not None:
            data = self._outbox.finish(&size)
            if size:
                self.station.writes += 1
                self._wire._fast_write(<char*>data, size)
            self._release_outbox()
        self._backlog = self._transport.get_write_buffer_size()

    cdef void _release_outbox(self) except *:
        if self._outbox is not None:
            self.station.give_back(self._outbox)
            self._outbox = None

    cdef void _unblock(self) except *:
        if self._blocked and self._state == OPEN and self._backlog <= self.station.outbox_bytes // 2:
            self._blocked = False
            try:
                self.writable()
            except Exception as fault:
                self.station.report(fault)
                self.shut(INTERNAL)

    cpdef pause_writing(self):
        pass   # the backlog is looked at after every flush

    cpdef resume_writing(self):
        if self._transport is not None:
            self._backlog = self._transport.get_write_buffer_size()
            self._resume(BY_BACKLOG)
            self._unblock()

    # ----------------------------------------------------------------------------------------------------------------- heartbeat

    cdef void check(self, double now) except *:
        cdef double idle
        if self._state == CLOSING:
            if now - self._closing_at >= self.station.closing_seconds:
                self.drop()
            return
        if self._paused & BY_OWNER:   # it may speak; we do not listen
            self._last_in = self._began = now
            return
        idle = now - self._last_in
        if self.unfinished() and now - self._began >= self.station.partial_seconds:
            self.shut(TIMEOUT)
        elif self._pings_itself:
            if idle >= self.station.idle_close_seconds:
                self.shut(TIMEOUT)
        elif self._pinged_at != NO_PING:
            if now - self._pinged_at >= self.station.pong_seconds:
                self.shut(TIMEOUT)
        elif idle >= self.station.server_ping_seconds:
            self._pinged_at = now
            self.outbox().message(PING, NULL, 0)

    # -------------------------------------------------------------------------------------------------------------- for subclasses

    cdef int receive(self, bint text, const uint8_t* data, Py_ssize_t size) except -1:
        self.on_message(text, PyBytes_FromStringAndSize(<const char*>data, size))
        return 0

    cdef int read_ended(self) except -1:
        return 0

    cdef int writable(self) except -1:
        return 0

    cdef int farewell(self, unsigned int reconnect_after_ms) except -1:
        return 0

    cdef int lost(self) except -1:
        self.on_lost()
        return 0

    def on_message(self, text: bool, payload: bytes) -> None:
        """A whole message came. Texts are valid UTF-8."""

    def on_lost(self) -> None:
        """The connection is gone. Called once, last."""

    def send_message(self, bint text, bytes payload) -> None:
        """Queue a message of its own."""
        if self._state == OPEN:
            self.outbox().message(TEXT if text else BINARY, <const char*>payload, len(payload))

    def close(self, int code) -> None:
        """Close with the catalogue's close code after what is queued. Safe to repeat."""
        self.shut(code)

    def pause_reading(self) -> None:
        """Stop reading from the peer."""
        self._pause(BY_OWNER)

    def resume_reading(self) -> None:
        """Read from the peer again."""
        self._resume(BY_OWNER)
