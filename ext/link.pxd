"""A client's connection in protobuf: `veredus.core.ports.Wire` on one side, `Peer` on the other."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from veredus.ext.channel cimport Channel
from veredus.ext.envelope cimport Identity, Inbound


cdef class Link(Channel):
    cdef:
        readonly Identity identity
        object _peer
        Inbound _inbound                # what this read brought so far; None between reads
        bint _deaf                      # a frame was malformed: nothing after it is looked at
        object _limits                  # what hello tells

    cpdef hello(self, bytes epoch, uint64_t server_timestamp)
    cpdef bint deliver(self, uint64_t tag, bytes envelope, uint64_t server_timestamp) except -1
    cpdef answer(self, object replies)
    cpdef drained(self, uint64_t tag)
    cpdef error(self, int code, str detail=*, uint32_t retry_after_ms=*)
    cpdef shutdown(self, uint32_t reconnect_after_ms)
