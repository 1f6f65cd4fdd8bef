"""Client frames to objects. The header for `ext/link`: an `Identity` per connection, an `Inbound` per socket read."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from veredus.ext.wire cimport Cursor


# Numbers of core's error catalogue (a test holds them equal).
cdef enum Code:
    CODE_OK = 0
    CODE_INVALID_CLIENT_ID = 5
    CODE_INVALID_DESTINATION = 6
    CODE_TOO_LARGE = 8
    CODE_INVALID_TYPE = 27


# `veredus.v1.Envelope.Type`: what clients may send.
cdef enum Type:
    CIPHERTEXT = 1
    PREKEY_BUNDLE = 3
    SEALED = 6
    PLAINTEXT = 8


cdef enum:
    UUID_SIZE = 16
    # Contents of one send that are looked at (what a configuration may set as its limit; 16 by default); more are counted only. Each takes
    # 32 bytes of stack.
    MAX_CONTENTS = 128
    # Sends in one frame; above it the frame is malformed. Clients wait for answers long before, and 2 MiB hold 5,000 sends of 300 bytes.
    # The dearest case, 4,096 sends to 16 devices with empty contents, costs 11 ms and 9 MB; without a bound 2 MiB hold a million sends.
    MAX_SENDS = 4096
    # Acknowledged tags and guids in one frame; above it the frame is malformed. A connection has at most `window` (1,000 by default)
    # deliveries to acknowledge. 65,536 guids cost 2.3 ms and 4 MB; without a bound 2 MiB hold two million tags.
    MAX_ACKS = 65536
    # Ids of another size than 16 bytes are kept up to here, for the refusal to name them.
    MAX_BAD_ID = 64


# Who sends on a connection, with the limits that hold for him. Made once per connection, shared by all its sends.
cdef class Identity:
    cdef:
        readonly bytes account
        readonly uint32_t device
        readonly Py_ssize_t max_content_bytes
        readonly Py_ssize_t max_devices

        # source_account and source_device as every envelope of his carries them.
        uint8_t[24] source
        Py_ssize_t source_size


# One message as a client sent it. Immutable; only bytes, numbers and tuples of these inside, so the garbage collector never looks.
cdef class Send:
    cdef:
        readonly bytes client_id
        readonly bytes destination
        readonly int32_t type
        readonly bint sealed
        readonly uint64_t client_timestamp
        readonly bint urgent
        readonly bint ephemeral
        readonly bytes digest
        readonly bytes guid
        readonly tuple devices
        readonly tuple registration_ids
        readonly tuple envelopes
        readonly Py_ssize_t size
        readonly int code


# What one socket read brought. `Inbound.__new__(Inbound)` makes an empty one.
cdef class Inbound:
    cdef:
        readonly list sends
        readonly list ack_tags
        readonly list ack_guids
        public uint64_t ack_up_to
        public bint resume
        public bint sync
        public bint malformed

    # Says whether there is anything to tell the core.
    cdef bint is_empty(self) noexcept


# Adds the items of one ClientFrame. Answers wire.OK, or wire.MALFORMED with `inbound.malformed` set and nothing of this frame added.
# Keeps no pointer into `data`. Raises MemoryError only.
cdef int parse_client_into(Inbound inbound, const uint8_t* data, Py_ssize_t size, Identity who) except -1
