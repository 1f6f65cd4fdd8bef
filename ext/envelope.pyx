"""The parser of client frames (`proto/veredus/v1/frames.proto`).

Owns the way from bytes of a client to `Send` objects: header fields through C, each content copied once, straight into the encoded
Envelope that the store and the recipients get. Judges form only (lengths, numbers, limits it is given); who may send what to whom is the
core's. Never keeps a pointer into its input, never raises on bad input.

Two steps per send: `scan_send` walks the bytes and notes where things are, since protobuf allows any order and lets a later value of a
field win; `new_send` judges what was found and builds the object.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.string cimport memcpy

from os import register_at_fork, urandom
from types import MappingProxyType

from veredus.ext.digest cimport (
    SipHash, digest_begin, siphash_end, siphash_padded, siphash_word, siphash_words,
)
from veredus.ext.wire cimport (
    DELIMITED, MALFORMED, OK, VARINT, Status, bytes_field_size, put_bytes_field, put_head, put_raw, put_varint_field, skip_field,
    skip_message, slice_size, take_slice, take_tag, take_varint, varint_field_size,
)

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject* op)

# For the test that holds them equal to the catalogue.
REFUSALS = MappingProxyType({
    "OK": CODE_OK,
    "INVALID_CLIENT_ID": CODE_INVALID_CLIENT_ID,
    "INVALID_DESTINATION": CODE_INVALID_DESTINATION,
    "TOO_LARGE": CODE_TOO_LARGE,
    "INVALID_TYPE": CODE_INVALID_TYPE,
})

cdef enum:
    POOL_SIZE = 4096   # one system call for 256 guids
    # What a budget is charged beside the envelopes' bytes: the objects of a send (sys.getsizeof, rounded as the allocator rounds: the send
    # 112, four ids of 64, three tuples of 48) and what each device adds (two numbers, three places, the head of a bytes object).
    SEND_OVERHEAD = 512
    DEVICE_OVERHEAD = 128


# --------------------------------------------------------------------------------------------------------------------- what was scanned

cdef struct Content:
    uint32_t device
    uint32_t registration_id
    int32_t type
    Cursor bytes


cdef struct Fields:
    Cursor client_id
    Cursor destination
    int32_t type
    uint64_t client_timestamp
    bint urgent
    bint ephemeral
    Py_ssize_t count               # contents met; the first MAX_CONTENTS are in `contents`
    Content[MAX_CONTENTS] contents


cdef void clear_fields(Fields* fields) noexcept nogil:
    fields.client_id = Cursor(NULL, 0)
    fields.destination = Cursor(NULL, 0)
    fields.type = 0
    fields.client_timestamp = 0
    fields.urgent = False
    fields.ephemeral = False
    fields.count = 0


cdef Status scan_content(Cursor cursor, Content* content) noexcept nogil:
    cdef uint32_t tag = 0
    cdef uint64_t value = 0
    content.device = 0
    content.registration_id = 0
    content.type = 0
    content.bytes = Cursor(NULL, 0)
    while cursor.left > 0:
        if take_tag(&cursor, &tag) != OK:
            return MALFORMED
        if tag == (3 << 3 | DELIMITED):
            if take_slice(&cursor, &content.bytes) != OK:
                return MALFORMED
        elif tag == (1 << 3 | VARINT) or tag == (2 << 3 | VARINT) or tag == (4 << 3 | VARINT):
            if take_varint(&cursor, &value) != OK:
                return MALFORMED
            if tag == (1 << 3 | VARINT):
                content.device = <uint32_t>value
            elif tag == (2 << 3 | VARINT):
                content.registration_id = <uint32_t>value
            else:
                content.type = <int32_t><uint32_t>value
        elif skip_field(&cursor, tag, 2) != OK:
            return MALFORMED
    return OK


cdef Status scan_send(Cursor cursor, Fields* fields) noexcept nogil:
    cdef uint32_t tag = 0
    cdef uint64_t value = 0
    cdef Cursor part
    cdef Content beyond
    clear_fields(fields)
    while cursor.left > 0:
        if take_tag(&cursor, &tag) != OK:
            return MALFORMED
        if tag == (7 << 3 | DELIMITED):
            if take_slice(&cursor, &part) != OK:
                return MALFORMED
            if scan_content(part, &fields.contents[fields.count] if fields.count < MAX_CONTENTS else &beyond) != OK:
                return MALFORMED
            fields.count += 1
        elif tag == (1 << 3 | DELIMITED):
            if take_slice(&cursor, &fields.client_id) != OK:
                return MALFORMED
        elif tag == (2 << 3 | DELIMITED):
            if take_slice(&cursor, &fields.destination) != OK:
                return MALFORMED
        elif tag & 7 == VARINT and 3 <= tag >> 3 <= 6:
            if take_varint(&cursor, &value) != OK:
                return MALFORMED
            set_scalar(fields, tag >> 3, value)
        elif skip_field(&cursor, tag, 1) != OK:
            return MALFORMED
    return OK


cdef inline void set_scalar(Fields* fields, uint32_t number, uint64_t value) noexcept nogil:
    if number == 3:
        fields.type = <int32_t><uint32_t>value
    elif number == 4:
        fields.client_timestamp = value
    elif number == 5:
        fields.urgent = value != 0
    else:
        fields.ephemeral = value != 0


# ------------------------------------------------------------------------------------------------------------------------ what was found

cdef inline int32_t type_of(const Fields* fields, const Content* content) noexcept nogil:
    return content.type if content.type != 0 else fields.type


cdef inline bint is_sendable(int32_t type) noexcept nogil:
    return type == CIPHERTEXT or type == PREKEY_BUNDLE or type == SEALED or type == PLAINTEXT


cdef bint has_types(const Fields* fields) noexcept nogil:
    """Every content has a type that clients may send, and all or none are sealed: a sealed send's source is stored nowhere."""
    cdef Py_ssize_t i, sealed = 0
    cdef int32_t type
    if fields.type != 0 and not is_sendable(fields.type):
        return False
    for i in range(fields.count):
        type = type_of(fields, &fields.contents[i])
        if not is_sendable(type):
            return False
        sealed += type == SEALED
    return sealed == 0 or sealed == fields.count


cdef int judge(const Fields* fields, Identity who) noexcept nogil:
    """The first thing wrong with the form of a send, in the order client id, destination, number of devices, types, devices, sizes."""
    cdef Py_ssize_t i, k
    cdef uint32_t device
    if fields.client_id.left != UUID_SIZE:
        return CODE_INVALID_CLIENT_ID
    if fields.destination.left != UUID_SIZE or fields.count == 0:
        return CODE_INVALID_DESTINATION
    if fields.count > who.max_devices:
        return CODE_TOO_LARGE
    if not has_types(fields):
        return CODE_INVALID_TYPE
    for i in range(fields.count):
        device = fields.contents[i].device
        if device == 0 or device > 0x7FFFFFFF:
            return CODE_INVALID_DESTINATION
        for k in range(i):
            if fields.contents[k].device == device:
                return CODE_INVALID_DESTINATION
    for i in range(fields.count):
        if fields.contents[i].bytes.left > who.max_content_bytes:
            return CODE_TOO_LARGE
    return CODE_OK


cdef bytes digest_of(const Fields* fields):
    """What a repeat must equal: 16 bytes of SipHash over words, the lowest byte first.

    The destination (two words); the flags (urgent 2, ephemeral 1); and for each content device << 32 | registration, type << 32 | size
    with the type that holds for it, its bytes with zeros up to a whole word. Every part has a fixed size or stands behind its size, so
    different sends are different input. The send's own type is only a default and no part of it.
    """
    cdef SipHash h
    cdef uint8_t[16] out
    cdef const Content* content
    cdef Py_ssize_t i
    digest_begin(&h)
    siphash_words(&h, fields.destination.ptr, 2)
    siphash_word(&h, <uint64_t>(fields.urgent << 1 | fields.ephemeral))
    for i in range(fields.count):
        content = &fields.contents[i]
        siphash_word(&h, <uint64_t>content.device << 32 | content.registration_id)
        siphash_word(&h, <uint64_t>type_of(fields, content) << 32 | <uint64_t>content.bytes.left)
        siphash_padded(&h, content.bytes.ptr, content.bytes.left)
    siphash_end(&h, NULL, 0, out)
    return PyBytes_FromStringAndSize(<char*>out, 16)


cdef bytes new_envelope(const Fields* fields, const Content* content, Identity who, const uint8_t* guid):
    """An encoded Envelope without server_timestamp, in the order and with the omissions of the official runtime."""
    cdef int32_t type = type_of(fields, content)
    cdef bint sealed = type == SEALED
    cdef Py_ssize_t size = (
        2 + (0 if sealed else who.source_size) + slice_size(UUID_SIZE) + varint_field_size(content.device) + slice_size(UUID_SIZE)
        + varint_field_size(fields.client_timestamp) + 2 * fields.urgent + 2 * fields.ephemeral + bytes_field_size(content.bytes.left)
    )
    cdef bytes encoded = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(encoded)
    out = put_varint_field(out, 1 << 3 | VARINT, <uint64_t>type)
    if not sealed:
        out = put_raw(out, who.source, who.source_size)
    out = put_raw(put_head(out, 4 << 3 | DELIMITED, UUID_SIZE), fields.destination.ptr, UUID_SIZE)
    out = put_varint_field(out, 5 << 3 | VARINT, content.device)
    out = put_raw(put_head(out, 6 << 3 | DELIMITED, UUID_SIZE), guid, UUID_SIZE)
    out = put_varint_field(out, 7 << 3 | VARINT, fields.client_timestamp)
    out = put_varint_field(out, 8 << 3 | VARINT, fields.urgent)
    out = put_varint_field(out, 9 << 3 | VARINT, fields.ephemeral)
    put_bytes_field(out, 10 << 3 | DELIMITED, content.bytes.ptr, content.bytes.left)
    return encoded


cdef inline void set_item(tuple target, Py_ssize_t index, object value) noexcept:
    """Into a tuple nobody has seen yet."""
    Py_INCREF(value)
    PyTuple_SET_ITEM(target, index, value)


cdef Send new_send(const Fields* fields, Identity who):
    """The object. A send to be refused gets its client id and destination, cut short when too long, and nothing else."""
    cdef Send send = Send.__new__(Send)
    cdef uint8_t[16] guid
    cdef bytes encoded
    cdef Py_ssize_t i
    send.code = judge(fields, who)
    send.client_id = take_id(&fields.client_id)
    send.destination = take_id(&fields.destination)
    send.type = fields.type
    send.sealed = send.code == CODE_OK and type_of(fields, &fields.contents[0]) == SEALED
    send.client_timestamp = fields.client_timestamp
    send.urgent = fields.urgent
    send.ephemeral = fields.ephemeral
    send.size = SEND_OVERHEAD
    if send.code != CODE_OK:
        send.digest = send.guid = b""
        send.devices = send.registration_ids = send.envelopes = ()
        return send
    send.digest = digest_of(fields)
    _guids.draw(guid)
    send.guid = PyBytes_FromStringAndSize(<char*>guid, UUID_SIZE)
    send.devices = PyTuple_New(fields.count)
    send.registration_ids = PyTuple_New(fields.count)
    send.envelopes = PyTuple_New(fields.count)
    for i in range(fields.count):
        encoded = new_envelope(fields, &fields.contents[i], who, guid)
        send.size += PyBytes_GET_SIZE(encoded) + DEVICE_OVERHEAD
        set_item(send.devices, i, fields.contents[i].device)
        set_item(send.registration_ids, i, fields.contents[i].registration_id)
        set_item(send.envelopes, i, encoded)
    # Tuples of numbers and bytes are in no cycle; the collector would find that out by itself at its first pass over each.
    PyObject_GC_UnTrack(<PyObject*>send.devices)
    PyObject_GC_UnTrack(<PyObject*>send.registration_ids)
    PyObject_GC_UnTrack(<PyObject*>send.envelopes)
    return send


cdef inline bytes take_id(const Cursor* id):
    return PyBytes_FromStringAndSize(<const char*>id.ptr, id.left if id.left <= UUID_SIZE else min(id.left, MAX_BAD_ID))


# --------------------------------------------------------------------------------------------------------------------------------- guids

@cython.final
@cython.internal
cdef class GuidPool:
    """Random UUIDs (RFC 9562, version 4) from blocks of the system's entropy. Never the same for two processes: a fork empties it."""

    cdef bytes block
    cdef Py_ssize_t left

    cdef int draw(self, uint8_t* out) except -1:
        if self.left == 0:
            self.block = urandom(POOL_SIZE)
            self.left = POOL_SIZE
        self.left -= UUID_SIZE
        memcpy(out, PyBytes_AS_STRING(self.block) + self.left, UUID_SIZE)
        out[6] = (out[6] & 0x0F) | 0x40
        out[8] = (out[8] & 0x3F) | 0x80
        return 0

    def forget(self):
        """Draw anew next time."""
        self.left = 0


# The one mutable thing in this module: entropy belongs to the process, and nothing depends on its state.
cdef GuidPool _guids = GuidPool()
register_at_fork(after_in_child=_guids.forget)


# ------------------------------------------------------------------------------------------------------------------------------- objects

@cython.final
cdef class Identity:
    def __cinit__(self, bytes account not None, uint32_t device, Py_ssize_t max_content_bytes, Py_ssize_t max_devices):
        cdef uint8_t* out = self.source
        if len(account) != UUID_SIZE:
            raise ValueError("an account is 16 bytes")
        if not 0 < max_devices <= MAX_CONTENTS:
            raise ValueError(f"max_devices must be 1 to {MAX_CONTENTS}")
        self.account = account
        self.device = device
        self.max_content_bytes = max_content_bytes
        self.max_devices = max_devices
        out = put_raw(put_head(out, 2 << 3 | DELIMITED, UUID_SIZE), PyBytes_AS_STRING(account), UUID_SIZE)
        out = put_varint_field(out, 3 << 3 | VARINT, device)
        self.source_size = out - self.source


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Send:
    def __init__(self, *args, **kwargs):
        raise TypeError("a Send comes from a parsed frame or from Send.build")

    @staticmethod
    def build(
        source_account, source_device, client_id, destination, type, client_timestamp, urgent, ephemeral, contents, max_content_bytes,
        max_devices,
    ):
        cdef Identity who = Identity(source_account, source_device, max_content_bytes, max_devices)
        cdef Fields fields
        cdef Content* content
        cdef Py_ssize_t i
        clear_fields(&fields)
        span(client_id, &fields.client_id)
        span(destination, &fields.destination)
        fields.type = type
        fields.client_timestamp = client_timestamp
        fields.urgent = bool(urgent)
        fields.ephemeral = bool(ephemeral)
        held = tuple(contents)   # keeps every content alive while it is pointed at
        fields.count = len(held)
        for i in range(min(fields.count, MAX_CONTENTS)):
            content = &fields.contents[i]
            content.type = 0
            if len(held[i]) == 4:
                content.device, content.registration_id, data, content.type = held[i]
            else:
                content.device, content.registration_id, data = held[i]
            span(data, &content.bytes)
        return new_send(&fields, who)


cdef int span(bytes data, Cursor* part) except -1:
    if data is None:
        raise TypeError("bytes expected")
    part.ptr = <const uint8_t*>PyBytes_AS_STRING(data)
    part.left = PyBytes_GET_SIZE(data)
    return 0


@cython.final
@cython.freelist(64)
cdef class Inbound:
    def __cinit__(self):
        self.sends = []
        self.ack_tags = []
        self.ack_guids = []

    cdef bint is_empty(self) noexcept:
        return not (self.malformed or self.resume or self.sync or self.ack_up_to or self.sends or self.ack_tags or self.ack_guids)


# -------------------------------------------------------------------------------------------------------------------------------- frames

cdef int add_ack(Inbound inbound, Cursor cursor, Py_ssize_t* room) except -1:
    """The items of one Ack, `room` of them at most."""
    cdef uint32_t tag = 0
    cdef uint64_t up_to = 0, value = 0
    cdef Cursor part
    while cursor.left > 0:
        if take_tag(&cursor, &tag) != OK:
            return MALFORMED
        if tag == (3 << 3 | VARINT):
            if take_varint(&cursor, &up_to) != OK:
                return MALFORMED
        elif tag == (1 << 3 | DELIMITED):
            if take_slice(&cursor, &part) != OK or add_tags(inbound, &part, room) != OK:
                return MALFORMED
        elif tag == (1 << 3 | VARINT):
            if take_varint(&cursor, &value) != OK or room[0] == 0:
                return MALFORMED
            room[0] -= 1
            inbound.ack_tags.append(value)
        elif tag == (2 << 3 | DELIMITED):
            if take_slice(&cursor, &part) != OK or part.left != UUID_SIZE or room[0] == 0:
                return MALFORMED
            room[0] -= 1
            inbound.ack_guids.append(PyBytes_FromStringAndSize(<const char*>part.ptr, UUID_SIZE))
        elif skip_field(&cursor, tag, 1) != OK:
            return MALFORMED
    if up_to > inbound.ack_up_to:
        inbound.ack_up_to = up_to
    return OK


cdef int add_tags(Inbound inbound, Cursor* packed, Py_ssize_t* room) except -1:
    cdef uint64_t value = 0
    while packed.left > 0:
        if take_varint(packed, &value) != OK or room[0] == 0:
            return MALFORMED
        room[0] -= 1
        inbound.ack_tags.append(value)
    return OK


cdef int add_items(Inbound inbound, Cursor cursor, Identity who) except -1:
    cdef uint32_t tag = 0
    cdef Cursor part
    cdef Fields fields
    cdef Py_ssize_t sends = 0
    cdef Py_ssize_t acks = MAX_ACKS
    while cursor.left > 0:
        if take_tag(&cursor, &tag) != OK:
            return MALFORMED
        if tag & 7 != DELIMITED or tag >> 3 > 4:
            if skip_field(&cursor, tag, 0) != OK:
                return MALFORMED
            continue
        if take_slice(&cursor, &part) != OK:
            return MALFORMED
        if tag >> 3 == 2:
            if sends == MAX_SENDS or scan_send(part, &fields) != OK:
                return MALFORMED
            sends += 1
            inbound.sends.append(new_send(&fields, who))
        elif tag >> 3 == 3:
            if add_ack(inbound, part, &acks) != OK:
                return MALFORMED
        else:
            if skip_message(&part, 1) != OK:
                return MALFORMED
            if tag >> 3 == 1:
                inbound.resume = True
            else:
                inbound.sync = True
    return OK


cdef int parse_client_into(Inbound inbound, const uint8_t* data, Py_ssize_t size, Identity who) except -1:
    cdef Cursor cursor = Cursor(data, size)
    cdef Py_ssize_t sends = PyList_GET_SIZE(inbound.sends)
    cdef Py_ssize_t tags = PyList_GET_SIZE(inbound.ack_tags)
    cdef Py_ssize_t guids = PyList_GET_SIZE(inbound.ack_guids)
    cdef uint64_t up_to = inbound.ack_up_to
    cdef bint resume = inbound.resume, sync = inbound.sync
    if add_items(inbound, cursor, who) == OK:
        return OK
    # A frame counts wholly or not at all.
    del inbound.sends[sends:]
    del inbound.ack_tags[tags:]
    del inbound.ack_guids[guids:]
    inbound.ack_up_to = up_to
    inbound.resume = resume
    inbound.sync = sync
    inbound.malformed = True
    return MALFORMED


def parse_client_frame(bytes data not None, source_account, source_device, max_content_bytes, max_devices):
    cdef Inbound inbound = Inbound.__new__(Inbound)
    parse_client_into(
        inbound, <const uint8_t*>PyBytes_AS_STRING(data), len(data), Identity(source_account, source_device, max_content_bytes, max_devices)
    )
    return inbound
