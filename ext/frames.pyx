"""The codec of server frames, and of client frames from the client's side.

Owns the bytes of both directions except what `ext/envelope` parses. Decides nothing: no limit but the bound on items is judged here, no
socket is touched. The reading half serves clients and load generators, so it is as strict and as fast as the server's.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memset

from veredus.ext.wire cimport (
    DELIMITED, FIXED64, MALFORMED, OK, VARINT, Cursor, Flat, bytes_field_size, put_bytes_field, put_fixed64, put_head, put_raw, put_varint,
    put_varint_field, scan_flat, scan_value, skip_field, slice_size, take_slice, take_tag, take_varint, varint_field_size, varint_size,
)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


# ------------------------------------------------------------------------------------------------------------------------ server: writing

@cython.final
cdef class FrameWriter:
    def __dealloc__(self):
        PyMem_Free(self._memory)

    cdef uint8_t* frame(self) noexcept:
        return self._memory + HEADROOM if self._memory != NULL else NULL

    cdef uint8_t* extend(self, Py_ssize_t more) except NULL:
        cdef Py_ssize_t needed = self.size + more
        cdef Py_ssize_t capacity = self._capacity
        cdef void* memory
        if needed > capacity:
            # Doubling keeps copying linear; 512 holds the answers to a usual window of sends.
            capacity = max(512, needed, 2 * capacity)
            memory = PyMem_Realloc(self._memory, <size_t>(HEADROOM + capacity))
            if memory == NULL:
                raise MemoryError
            self._memory = <uint8_t*>memory
            self._capacity = capacity
        self.size = needed
        return self._memory + HEADROOM + needed - more

    cpdef int put_hello(
        self, bytes store_epoch, bytes account, uint32_t device, uint64_t server_timestamp, uint32_t max_content_bytes,
        uint32_t max_message_bytes, uint32_t max_devices, uint32_t window, uint32_t ping_interval_ms
    ) except -1:
        cdef Py_ssize_t inner = (
            bytes_field_size(len(store_epoch)) + bytes_field_size(len(account)) + varint_field_size(device)
            + varint_field_size(server_timestamp) + varint_field_size(max_content_bytes) + varint_field_size(max_message_bytes)
            + varint_field_size(max_devices) + varint_field_size(window) + varint_field_size(ping_interval_ms)
        )
        cdef uint8_t* out = put_head(self.extend(slice_size(inner)), 1 << 3 | DELIMITED, inner)
        out = put_bytes_field(out, 1 << 3 | DELIMITED, PyBytes_AS_STRING(store_epoch), PyBytes_GET_SIZE(store_epoch))
        out = put_bytes_field(out, 2 << 3 | DELIMITED, PyBytes_AS_STRING(account), PyBytes_GET_SIZE(account))
        out = put_varint_field(out, 3 << 3 | VARINT, device)
        out = put_varint_field(out, 4 << 3 | VARINT, server_timestamp)
        out = put_varint_field(out, 5 << 3 | VARINT, max_content_bytes)
        out = put_varint_field(out, 6 << 3 | VARINT, max_message_bytes)
        out = put_varint_field(out, 7 << 3 | VARINT, max_devices)
        out = put_varint_field(out, 8 << 3 | VARINT, window)
        put_varint_field(out, 9 << 3 | VARINT, ping_interval_ms)
        return 0

    cpdef int put_sent(self, bytes client_id, bytes guid, uint64_t server_timestamp, bint needs_sync) except -1:
        return put_result(self, client_id, 0, guid, server_timestamp, needs_sync, 0, (), (), ())

    cpdef int put_reply(self, object reply) except -1:
        cdef uint32_t code = reply.code
        if code == 0:
            return put_result(self, reply.client_id, 0, reply.guid, reply.server_timestamp, reply.needs_sync, 0, (), (), ())
        return put_result(
            self, reply.client_id, code, reply.guid, reply.server_timestamp, reply.needs_sync, reply.retry_after_ms,
            reply.missing_devices, reply.extra_devices, reply.stale_devices,
        )

    cpdef int put_delivery(self, uint64_t tag, bytes envelope, uint64_t server_timestamp) except -1:
        cdef Py_ssize_t length = len(envelope)
        cdef Py_ssize_t inner = varint_field_size(tag) + slice_size(length + 9)
        cdef uint8_t* out = put_head(self.extend(slice_size(inner)), 3 << 3 | DELIMITED, inner)
        out = put_varint_field(out, 1 << 3 | VARINT, tag)
        out = put_raw(put_head(out, 2 << 3 | DELIMITED, length + 9), PyBytes_AS_STRING(envelope), length)
        put_fixed64(out, 15 << 3 | FIXED64, server_timestamp)
        return 0

    cpdef int put_drained(self, uint64_t tag) except -1:
        cdef Py_ssize_t inner = varint_field_size(tag)
        put_varint_field(put_head(self.extend(slice_size(inner)), 4 << 3 | DELIMITED, inner), 1 << 3 | VARINT, tag)
        return 0

    cpdef int put_error(self, uint32_t code, str reason, uint32_t retry_after_ms) except -1:
        cdef Py_ssize_t length = 0
        cdef const char* text = PyUnicode_AsUTF8AndSize(reason, &length)
        cdef Py_ssize_t inner = varint_field_size(code) + bytes_field_size(length) + varint_field_size(retry_after_ms)
        cdef uint8_t* out = put_head(self.extend(slice_size(inner)), 5 << 3 | DELIMITED, inner)
        out = put_varint_field(out, 1 << 3 | VARINT, code)
        out = put_bytes_field(out, 2 << 3 | DELIMITED, text, length)
        put_varint_field(out, 3 << 3 | VARINT, retry_after_ms)
        return 0

    cpdef int put_shutdown(self, uint32_t reconnect_after_ms) except -1:
        cdef Py_ssize_t inner = varint_field_size(reconnect_after_ms)
        put_varint_field(put_head(self.extend(slice_size(inner)), 6 << 3 | DELIMITED, inner), 1 << 3 | VARINT, reconnect_after_ms)
        return 0

    cpdef bytes take(self):
        cdef bytes frame = PyBytes_FromStringAndSize(<char*>self.frame(), self.size)
        self.clear()
        return frame

    cpdef void clear(self) noexcept:
        self.size = 0
        if self._capacity > KEPT_CAPACITY:
            self.release()

    cpdef void release(self) noexcept:
        PyMem_Free(self._memory)
        self._memory = NULL
        self._capacity = 0
        self.size = 0


cdef int put_result(
    FrameWriter writer, bytes client_id, uint32_t code, bytes guid, uint64_t server_timestamp, bint needs_sync, uint32_t retry_after_ms,
    tuple missing, tuple extra, tuple stale
) except -1:
    cdef Py_ssize_t inner = (
        bytes_field_size(len(client_id)) + varint_field_size(code) + bytes_field_size(len(guid)) + varint_field_size(server_timestamp)
        + 2 * needs_sync + varint_field_size(retry_after_ms) + numbers_size(missing) + numbers_size(extra) + numbers_size(stale)
    )
    cdef uint8_t* out = put_head(writer.extend(slice_size(inner)), 2 << 3 | DELIMITED, inner)
    out = put_bytes_field(out, 1 << 3 | DELIMITED, PyBytes_AS_STRING(client_id), PyBytes_GET_SIZE(client_id))
    out = put_varint_field(out, 2 << 3 | VARINT, code)
    out = put_bytes_field(out, 3 << 3 | DELIMITED, PyBytes_AS_STRING(guid), PyBytes_GET_SIZE(guid))
    out = put_varint_field(out, 4 << 3 | VARINT, server_timestamp)
    out = put_varint_field(out, 5 << 3 | VARINT, needs_sync)
    out = put_varint_field(out, 6 << 3 | VARINT, retry_after_ms)
    out = put_numbers(out, 7 << 3 | DELIMITED, missing)
    out = put_numbers(out, 8 << 3 | DELIMITED, extra)
    put_numbers(out, 9 << 3 | DELIMITED, stale)
    return 0


cdef Py_ssize_t packed_size(tuple numbers) except -1:
    """Also the check that every number is a uint32, before anything is written."""
    cdef Py_ssize_t size = 0
    cdef uint32_t value
    for number in numbers:
        value = number
        size += varint_size(value)
    return size


cdef Py_ssize_t numbers_size(tuple numbers) except -1:
    return bytes_field_size(packed_size(numbers)) if numbers else 0


cdef uint8_t* put_numbers(uint8_t* out, uint8_t tag, tuple numbers) except NULL:
    cdef uint32_t value
    if numbers:
        out = put_head(out, tag, packed_size(numbers))
        for number in numbers:
            value = number
            out = put_varint(out, value)
    return out


# ------------------------------------------------------------------------------------------------------------------------ client: writing

def encode_send(
    bytes client_id not None, bytes destination not None, int32_t type, uint64_t client_timestamp, bint urgent, bint ephemeral, contents
):
    cdef Py_ssize_t inner = (
        bytes_field_size(len(client_id)) + bytes_field_size(len(destination)) + varint_field_size(<uint64_t>type)
        + varint_field_size(client_timestamp) + 2 * urgent + 2 * ephemeral
    )
    cdef tuple items = tuple([new_content(item) for item in contents])
    for item in items:
        inner += PyBytes_GET_SIZE(item)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, slice_size(inner))
    cdef uint8_t* out = put_head(<uint8_t*>PyBytes_AS_STRING(frame), 2 << 3 | DELIMITED, inner)
    out = put_bytes_field(out, 1 << 3 | DELIMITED, PyBytes_AS_STRING(client_id), PyBytes_GET_SIZE(client_id))
    out = put_bytes_field(out, 2 << 3 | DELIMITED, PyBytes_AS_STRING(destination), PyBytes_GET_SIZE(destination))
    out = put_varint_field(out, 3 << 3 | VARINT, <uint64_t>type)   # a negative enum is ten bytes, sign extended
    out = put_varint_field(out, 4 << 3 | VARINT, client_timestamp)
    out = put_varint_field(out, 5 << 3 | VARINT, urgent)
    out = put_varint_field(out, 6 << 3 | VARINT, ephemeral)
    for item in items:
        out = put_raw(out, PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item))
    return frame


cdef bytes new_content(fields):
    """One DeviceContent with its tag and length, ready to be joined, from three fields or, with a type of its own, four."""
    cdef uint32_t device, registration_id
    cdef bytes content
    cdef int32_t type = 0
    if len(fields) == 4:
        device, registration_id, content, type = fields
    else:
        device, registration_id, content = fields
    cdef Py_ssize_t inner = (
        varint_field_size(device) + varint_field_size(registration_id) + bytes_field_size(len(content)) + varint_field_size(<uint64_t>type)
    )
    cdef bytes item = PyBytes_FromStringAndSize(NULL, slice_size(inner))
    cdef uint8_t* out = put_head(<uint8_t*>PyBytes_AS_STRING(item), 7 << 3 | DELIMITED, inner)
    out = put_varint_field(out, 1 << 3 | VARINT, device)
    out = put_varint_field(out, 2 << 3 | VARINT, registration_id)
    out = put_bytes_field(out, 3 << 3 | DELIMITED, PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content))
    put_varint_field(out, 4 << 3 | VARINT, <uint64_t>type)
    return item


def encode_ack(tags=(), guids=(), uint64_t up_to=0):
    cdef tuple tag_items = tuple(tags)
    cdef tuple guid_items = tuple(guids)
    cdef Py_ssize_t packed = 0, inner = varint_field_size(up_to)
    cdef uint64_t tag
    cdef bytes guid
    for number in tag_items:
        tag = number
        packed += varint_size(tag)
    inner += bytes_field_size(packed)
    for guid in guid_items:
        inner += slice_size(len(guid))
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, slice_size(inner))
    cdef uint8_t* out = put_head(<uint8_t*>PyBytes_AS_STRING(frame), 3 << 3 | DELIMITED, inner)
    if packed:
        out = put_head(out, 1 << 3 | DELIMITED, packed)
        for number in tag_items:
            tag = number
            out = put_varint(out, tag)
    for guid in guid_items:
        out = put_raw(put_head(out, 2 << 3 | DELIMITED, PyBytes_GET_SIZE(guid)), PyBytes_AS_STRING(guid), PyBytes_GET_SIZE(guid))
    put_varint_field(out, 3 << 3 | VARINT, up_to)
    return frame


def encode_sync():
    return b"\x22\x00"


def encode_resume():
    return b"\x0a\x00"


# ------------------------------------------------------------------------------------------------------------------------ client: reading

@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Envelope:
    pass


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Delivery:
    pass


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class SendResult:
    pass


@cython.final
@cython.no_gc
cdef class Hello:
    pass


@cython.final
@cython.no_gc
cdef class Notice:
    pass


@cython.final
@cython.freelist(8)
cdef class ServerInbound:
    def __cinit__(self):
        self.results = []
        self.deliveries = []
        self.errors = []


# The fields of flat messages by wire type, bit n for field n.
cdef enum:
    ENVELOPE_NUMBERS = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9
    ENVELOPE_FIXED = 1 << 15
    ENVELOPE_SLICES = 1 << 2 | 1 << 4 | 1 << 6 | 1 << 10
    RESULT_NUMBERS = 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6
    RESULT_SLICES = 1 << 1 | 1 << 3
    HELLO_NUMBERS = 0x3F8   # 3 to 9
    HELLO_SLICES = 1 << 1 | 1 << 2


cdef inline bytes taken(const Cursor* part):
    return PyBytes_FromStringAndSize(<const char*>part.ptr, part.left)


cdef Envelope new_envelope(const Flat* flat):
    cdef Envelope envelope = Envelope.__new__(Envelope)
    envelope.type = <int32_t><uint32_t>flat.numbers[1]
    envelope.source_account = taken(&flat.slices[2])
    envelope.source_device = <uint32_t>flat.numbers[3]
    envelope.destination_account = taken(&flat.slices[4])
    envelope.destination_device = <uint32_t>flat.numbers[5]
    envelope.guid = taken(&flat.slices[6])
    envelope.client_timestamp = flat.numbers[7]
    envelope.urgent = flat.numbers[8] != 0
    envelope.ephemeral = flat.numbers[9] != 0
    envelope.content = taken(&flat.slices[10])
    envelope.server_timestamp = flat.numbers[15]
    return envelope


cdef int add_delivery(ServerInbound inbound, Cursor cursor) except -1:
    cdef Flat flat
    cdef Cursor part
    cdef uint32_t tag = 0
    cdef uint64_t number = 0
    cdef Delivery delivery
    memset(&flat, 0, sizeof(Flat))
    while cursor.left > 0:
        if take_tag(&cursor, &tag) != OK:
            return MALFORMED
        if tag == (2 << 3 | DELIMITED):
            if take_slice(&cursor, &part) != OK or scan_flat(part, ENVELOPE_NUMBERS, ENVELOPE_FIXED, ENVELOPE_SLICES, 2, &flat) != OK:
                return MALFORMED
        elif tag == (1 << 3 | VARINT):
            if take_varint(&cursor, &number) != OK:
                return MALFORMED
        elif skip_field(&cursor, tag, 1) != OK:
            return MALFORMED
    delivery = Delivery.__new__(Delivery)
    delivery.tag = number
    delivery.envelope = new_envelope(&flat)
    inbound.deliveries.append(delivery)
    return OK


cdef int add_numbers(list numbers, Cursor packed, Py_ssize_t* room) except -1:
    cdef uint64_t value = 0
    while packed.left > 0:
        if take_varint(&packed, &value) != OK or room[0] == 0:
            return MALFORMED
        room[0] -= 1
        numbers.append(<uint32_t>value)
    return OK


cdef int add_result(ServerInbound inbound, Cursor cursor, Py_ssize_t* room) except -1:
    cdef Flat flat
    cdef Cursor part
    cdef uint32_t tag = 0
    cdef uint64_t number = 0
    cdef list lists = None   # of missing, extra and stale devices: rare
    cdef SendResult result
    memset(&flat, 0, sizeof(Flat))
    while cursor.left > 0:
        if take_tag(&cursor, &tag) != OK:
            return MALFORMED
        if 7 <= tag >> 3 <= 9 and (tag & 7 == DELIMITED or tag & 7 == VARINT):
            if tag & 7 == DELIMITED:
                if take_slice(&cursor, &part) != OK:
                    return MALFORMED
            else:
                part = cursor
                if take_varint(&cursor, &number) != OK:
                    return MALFORMED
                part.left -= cursor.left
            lists = lists or [[], [], []]
            if add_numbers(lists[(tag >> 3) - 7], part, room) != OK:
                return MALFORMED
        elif scan_value(&cursor, tag, RESULT_NUMBERS, 0, RESULT_SLICES, 1, &flat) != OK:
            return MALFORMED
    result = SendResult.__new__(SendResult)
    result.client_id = taken(&flat.slices[1])
    result.code = <uint32_t>flat.numbers[2]
    result.guid = taken(&flat.slices[3])
    result.server_timestamp = flat.numbers[4]
    result.needs_sync = flat.numbers[5] != 0
    result.retry_after_ms = <uint32_t>flat.numbers[6]
    result.missing_devices, result.extra_devices, result.stale_devices = map(tuple, lists) if lists else ((), (), ())
    inbound.results.append(result)
    return OK


cdef int add_notice(ServerInbound inbound, Cursor cursor) except -1:
    cdef Flat flat
    cdef Notice notice = Notice.__new__(Notice)
    cdef uint32_t tag = 0
    cdef Cursor part
    memset(&flat, 0, sizeof(Flat))
    notice.reason = ""
    while cursor.left > 0:
        if take_tag(&cursor, &tag) != OK:
            return MALFORMED
        if tag == (2 << 3 | DELIMITED):
            if take_slice(&cursor, &part) != OK:
                return MALFORMED
            try:   # every value of a string must be UTF-8, also one that a later value replaces
                notice.reason = PyUnicode_DecodeUTF8(<const char*>part.ptr, part.left, NULL)
            except UnicodeDecodeError:
                return MALFORMED
        elif scan_value(&cursor, tag, 1 << 1 | 1 << 3, 0, 0, 1, &flat) != OK:
            return MALFORMED
    notice.code = <uint32_t>flat.numbers[1]
    notice.retry_after_ms = <uint32_t>flat.numbers[3]
    inbound.errors.append(notice)
    return OK


cdef Hello new_hello(const Flat* flat):
    cdef Hello hello = Hello.__new__(Hello)
    hello.store_epoch = taken(&flat.slices[1])
    hello.account = taken(&flat.slices[2])
    hello.device = <uint32_t>flat.numbers[3]
    hello.server_timestamp = flat.numbers[4]
    hello.max_content_bytes = <uint32_t>flat.numbers[5]
    hello.max_message_bytes = <uint32_t>flat.numbers[6]
    hello.max_devices = <uint32_t>flat.numbers[7]
    hello.window = <uint32_t>flat.numbers[8]
    hello.ping_interval_ms = <uint32_t>flat.numbers[9]
    return hello


cdef int add_item(ServerInbound inbound, uint32_t number, Cursor part, Py_ssize_t* room, Flat[3]* single) except -1:
    """One of the six kinds. `single` holds the kinds that are one message however often they come: hello, drained, shutdown."""
    if number == 1:
        return scan_flat(part, HELLO_NUMBERS, 0, HELLO_SLICES, 1, &single[0][0])
    if number == 4:
        return scan_flat(part, 1 << 1, 0, 0, 1, &single[0][1])
    if number == 6:
        return scan_flat(part, 1 << 1, 0, 0, 1, &single[0][2])
    if room[0] == 0:
        return MALFORMED
    room[0] -= 1
    if number == 2:
        return add_result(inbound, part, room)
    if number == 3:
        return add_delivery(inbound, part)
    return add_notice(inbound, part)


cdef int add_items(ServerInbound inbound, Cursor cursor) except -1:
    cdef Flat[3] single
    cdef uint32_t tag = 0, met = 0
    cdef Py_ssize_t room = MAX_ITEMS
    cdef Cursor part
    memset(single, 0, sizeof(single))
    while cursor.left > 0:
        if take_tag(&cursor, &tag) != OK:
            return MALFORMED
        if tag & 7 != DELIMITED or tag >> 3 > 6:
            if skip_field(&cursor, tag, 0) != OK:
                return MALFORMED
        elif take_slice(&cursor, &part) != OK or add_item(inbound, tag >> 3, part, &room, &single) != OK:
            return MALFORMED
        else:
            met |= 1 << (tag >> 3)
    if met & 1 << 1:
        inbound.hello = new_hello(&single[0])
    if met & 1 << 4:
        inbound.drained = single[1].numbers[1]
    if met & 1 << 6:
        inbound.shutdown = <uint32_t>single[2].numbers[1]
    return OK


cdef ServerInbound parse_server(const uint8_t* data, Py_ssize_t size):
    cdef ServerInbound inbound = ServerInbound.__new__(ServerInbound)
    if add_items(inbound, Cursor(data, size)) != OK:
        inbound = ServerInbound.__new__(ServerInbound)
        inbound.malformed = True
    return inbound


def parse_server_frame(bytes data not None):
    return parse_server(<const uint8_t*>PyBytes_AS_STRING(data), len(data))


def parse_envelope(bytes encoded not None):
    cdef Flat flat
    memset(&flat, 0, sizeof(Flat))
    cdef Cursor cursor = Cursor(<const uint8_t*>PyBytes_AS_STRING(encoded), len(encoded))
    if scan_flat(cursor, ENVELOPE_NUMBERS, ENVELOPE_FIXED, ENVELOPE_SLICES, 0, &flat) != OK:
        return None
    return new_envelope(&flat)
