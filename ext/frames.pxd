"""Server frames: written by the server into a `FrameWriter`, read by clients with `parse_server_frame`. The header for `ext/link`."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from veredus.ext.wire cimport slice_size, varint_field_size


cdef enum:
    # Free bytes in front of a frame: a WebSocket header (2 + 8 + 4) is written there, so that frame and header leave in one write.
    HEADROOM = 14
    # `clear` keeps memory up to this size; above, a burst would pin its largest frame for the life of the writer.
    KEPT_CAPACITY = 65536
    # Items in a server frame, above it a client calls the frame malformed. The server's outbox (1 MiB by default) holds fewer of any kind.
    MAX_ITEMS = 65536


# Bytes that one delivery adds to a frame; `envelope_size` is without the nine bytes of server_timestamp.
cdef inline Py_ssize_t delivery_size(uint64_t tag, Py_ssize_t envelope_size) noexcept nogil:
    return slice_size(varint_field_size(tag) + slice_size(envelope_size + 9))


# A ServerFrame that grows item by item: protobuf joins messages by joining their bytes. A put either adds a whole item or raises
# (MemoryError, or TypeError/ValueError on values that do not fit their field) and adds nothing. No memory until the first put.
cdef class FrameWriter:
    cdef:
        uint8_t* _memory        # HEADROOM, then _capacity bytes of which `size` are used
        Py_ssize_t _capacity
        readonly Py_ssize_t size

    # The first byte of the frame, HEADROOM writable bytes before it; valid until the next put, clear or release. NULL before the first put.
    cdef uint8_t* frame(self) noexcept
    # Room for `more` bytes at the end, already counted in `size`; whoever calls must fill it.
    cdef uint8_t* extend(self, Py_ssize_t more) except NULL

    cpdef int put_hello(
        self, bytes store_epoch, bytes account, uint32_t device, uint64_t server_timestamp, uint32_t max_content_bytes,
        uint32_t max_message_bytes, uint32_t max_devices, uint32_t window, uint32_t ping_interval_ms
    ) except -1
    cpdef int put_sent(self, bytes client_id, bytes guid, uint64_t server_timestamp, bint needs_sync) except -1
    # A `veredus.core.model.Reply`, or whatever has its attributes.
    cpdef int put_reply(self, object reply) except -1
    cpdef int put_delivery(self, uint64_t tag, bytes envelope, uint64_t server_timestamp) except -1
    cpdef int put_drained(self, uint64_t tag) except -1
    cpdef int put_error(self, uint32_t code, str reason, uint32_t retry_after_ms) except -1
    cpdef int put_shutdown(self, uint32_t reconnect_after_ms) except -1

    cpdef bytes take(self)
    cpdef void clear(self) noexcept
    cpdef void release(self) noexcept


# `veredus.v1.Envelope`; absent fields have their defaults.
cdef class Envelope:
    cdef:
        readonly int32_t type
        readonly bytes source_account
        readonly uint32_t source_device
        readonly bytes destination_account
        readonly uint32_t destination_device
        readonly bytes guid
        readonly uint64_t client_timestamp
        readonly bint urgent
        readonly bint ephemeral
        readonly bytes content
        readonly uint64_t server_timestamp


cdef class Delivery:
    cdef:
        readonly uint64_t tag
        readonly Envelope envelope


cdef class SendResult:
    cdef:
        readonly bytes client_id
        readonly uint32_t code
        readonly bytes guid
        readonly uint64_t server_timestamp
        readonly bint needs_sync
        readonly uint32_t retry_after_ms
        readonly tuple missing_devices
        readonly tuple extra_devices
        readonly tuple stale_devices


cdef class Hello:
    cdef:
        readonly bytes store_epoch
        readonly bytes account
        readonly uint32_t device
        readonly uint64_t server_timestamp
        readonly uint32_t max_content_bytes
        readonly uint32_t max_message_bytes
        readonly uint32_t max_devices
        readonly uint32_t window
        readonly uint32_t ping_interval_ms


cdef class Notice:
    cdef:
        readonly uint32_t code
        readonly str reason
        readonly uint32_t retry_after_ms


cdef class ServerInbound:
    cdef:
        readonly Hello hello
        readonly list results
        readonly list deliveries
        readonly object drained
        readonly list errors
        readonly object shutdown
        readonly bint malformed


# One ServerFrame. Keeps no pointer into `data`; malformed bytes give an otherwise empty answer with `malformed` set.
cdef ServerInbound parse_server(const uint8_t* data, Py_ssize_t size)
