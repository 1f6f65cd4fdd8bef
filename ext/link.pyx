"""A client's connection in protobuf (`Sec-WebSocket-Protocol: signalservice`, WS-2).

Owns the translation between WebSocket messages and core's `Wire` and `Peer`: one call to the peer per socket read, one write per loop
iteration. Decides nothing: what a frame means is core's, what WebSocket allows is `channel`'s.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from veredus.ext.channel cimport Channel
from veredus.ext.envelope cimport Identity, Inbound, parse_client_into
from veredus.ext.frames cimport delivery_size
from veredus.ext.outbox cimport DELIVERY, DRAINED, ERROR, HELLO, RESULT, SHUTDOWN
from veredus.ext.station cimport Station


cdef class Link(Channel):
    """`veredus.core.ports.Wire`. Everything queued during one loop iteration leaves in one write; calls after the end do nothing."""

    def __init__(self, Station station, bytes account, uint32_t device, object limits) -> None:
        Channel.__init__(self, station, False)
        self.identity = Identity(account, device, limits.content_bytes, limits.devices_per_send)
        self._limits = limits

    def bind(self, object peer) -> None:
        """The receiving half. Before any byte is fed."""
        self._peer = peer

    # ------------------------------------------------------------------------------------------------------------ from the client

    cdef int receive(self, bint text, const uint8_t* data, Py_ssize_t size) except -1:
        if self._deaf:
            return 0
        if self._inbound is None:
            self._inbound = Inbound.__new__(Inbound)
        parse_client_into(self._inbound, data, size, self.identity)
        self._deaf = self._inbound.malformed
        return 0

    cdef int read_ended(self) except -1:
        cdef Inbound inbound = self._inbound
        if inbound is not None:
            self._inbound = None
            if not inbound.is_empty():
                self._peer.on_inbound(inbound)
        return 0

    cdef int writable(self) except -1:
        self._peer.on_writable()
        return 0

    cdef int lost(self) except -1:
        cdef object peer = self._peer
        self._peer = None
        self._inbound = None
        if peer is not None:
            peer.on_lost()
        return 0

    cdef int farewell(self, unsigned int reconnect_after_ms) except -1:
        self.shutdown(reconnect_after_ms)
        return 0

    # -------------------------------------------------------------------------------------------------------------- to the client

    cpdef hello(self, bytes epoch, uint64_t server_timestamp):
        """The first frame: who the peer is here and which limits hold."""
        cdef object limits = self._limits
        if self.is_open() and limits is not None:   # once
            self.outbox().frame(HELLO).put_hello(
                epoch, self.identity.account, self.identity.device, server_timestamp, limits.content_bytes, limits.message_bytes,
                limits.devices_per_send, limits.window, <uint32_t>(limits.client_ping_seconds * 1000),
            )
            self._limits = None

    cpdef bint deliver(self, uint64_t tag, bytes envelope, uint64_t server_timestamp) except -1:
        """Queue one delivery. False: the outbox is full and nothing was queued; `Peer.on_writable` follows when there is room."""
        cdef Py_ssize_t size = delivery_size(tag, len(envelope))
        if not self.is_open() or not self.has_room(size):
            return False
        self.outbox().frame(DELIVERY, size).put_delivery(tag, envelope, server_timestamp)
        return True

    cpdef answer(self, object replies):
        """Queue answers to sends."""
        cdef object reply
        if self.is_open():
            for reply in replies:
                self.outbox().frame(RESULT).put_reply(reply)

    cpdef drained(self, uint64_t tag):
        """Everything stored so far was sent, `tag` last."""
        if self.is_open():
            self.outbox().frame(DRAINED).put_drained(tag)

    cpdef error(self, int code, str detail="", uint32_t retry_after_ms=0):
        """Tell of a fault that belongs to no send. Closes the connection when the catalogue says so."""
        if self.is_open():
            self.outbox().frame(ERROR).put_error(code, detail or self.station.reason(code), retry_after_ms)
            if self.station.ends(code):
                self.shut(code)

    cpdef shutdown(self, uint32_t reconnect_after_ms):
        """Give notice that the server goes."""
        if self.is_open():
            self.outbox().frame(SHUTDOWN).put_shutdown(reconnect_after_ms)
