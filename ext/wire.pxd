"""The protobuf wire format on raw memory: a bounds-checked cursor to read with, put_* functions to write with.

Owns every step of a pointer over input: no other file does arithmetic on bytes that came from outside. Knows no message, allocates
nothing, raises nothing: bad input is `MALFORMED`. What counts as malformed is what the official runtime refuses (upb of protobuf 7.36; see
`tests/unit/ext/test_wire.py`): a varint takes at most ten bytes and loses what is above 64 bits; a tag takes at most five bytes and fits 32
bits; a length takes at most five bytes and is below 2^31; field number 0 exists only inside unknown groups and messages without fields;
unknown groups may nest until messages and groups together are 100 deep.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef enum Status:
    OK = 0
    MALFORMED = 1


cdef enum:
    MAX_DEPTH = 100           # the official runtime's limit of messages and groups inside each other, the outermost not counted
    MAX_LENGTH = 0x7FFFFFFF   # the official runtime's limit of one length

    # Wire types. 6 and 7 do not exist.
    VARINT = 0
    FIXED64 = 1
    DELIMITED = 2
    GROUP = 3
    GROUP_END = 4
    FIXED32 = 5


# A span of memory somebody else owns; reading moves its start. Valid as long as that memory is.
cdef struct Cursor:
    const uint8_t* ptr
    Py_ssize_t left


# ------------------------------------------------------------------------------------------------------------------------- reading

cdef inline Status take_varint(Cursor* cursor, uint64_t* value) noexcept nogil:
    """At most ten bytes; bits above 64 are dropped, as the official runtime does."""
    cdef uint64_t result = 0
    cdef uint8_t byte
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t end = cursor.left if cursor.left < 10 else 10
    while i < end:
        byte = cursor.ptr[i]
        result |= <uint64_t>(byte & 0x7F) << (7 * i)
        i += 1
        if byte < 0x80:
            cursor.ptr += i
            cursor.left -= i
            value[0] = result
            return OK
    return MALFORMED


cdef inline Status take_short_varint(Cursor* cursor, uint64_t limit, uint64_t* value) noexcept nogil:
    """A tag or a length: at most five bytes, at most `limit`."""
    cdef Py_ssize_t before = cursor.left
    if before > 0 and cursor.ptr[0] < 0x80:
        value[0] = cursor.ptr[0]
        cursor.ptr += 1
        cursor.left -= 1
        return OK
    if take_varint(cursor, value) != OK or before - cursor.left > 5 or value[0] > limit:
        return MALFORMED
    return OK


cdef inline Status take_any_tag(Cursor* cursor, uint32_t* tag) noexcept nogil:
    """A tag whose field number may be 0: inside unknown groups only."""
    cdef uint64_t value = 0
    if take_short_varint(cursor, 0xFFFFFFFF, &value) != OK:
        return MALFORMED
    tag[0] = <uint32_t>value
    return OK


cdef inline Status take_tag(Cursor* cursor, uint32_t* tag) noexcept nogil:
    """Field number << 3 | wire type, the field number not 0."""
    if take_any_tag(cursor, tag) != OK or tag[0] < 8:
        return MALFORMED
    return OK


cdef inline Status take_slice(Cursor* cursor, Cursor* part) noexcept nogil:
    """A length and that many bytes, which `part` then spans."""
    cdef uint64_t length = 0
    if take_short_varint(cursor, MAX_LENGTH, &length) != OK or <Py_ssize_t>length > cursor.left:
        return MALFORMED
    part.ptr = cursor.ptr
    part.left = <Py_ssize_t>length
    cursor.ptr += length
    cursor.left -= <Py_ssize_t>length
    return OK


cdef inline uint64_t load64(const uint8_t* at) noexcept nogil:
    """Eight bytes, the lowest first, on a machine of any byte order."""
    return (<uint64_t>at[0] | <uint64_t>at[1] << 8 | <uint64_t>at[2] << 16 | <uint64_t>at[3] << 24
            | <uint64_t>at[4] << 32 | <uint64_t>at[5] << 40 | <uint64_t>at[6] << 48 | <uint64_t>at[7] << 56)


cdef inline Status take_fixed64(Cursor* cursor, uint64_t* value) noexcept nogil:
    if cursor.left < 8:
        return MALFORMED
    value[0] = load64(cursor.ptr)
    cursor.ptr += 8
    cursor.left -= 8
    return OK


cdef inline Status skip_value(Cursor* cursor, uint32_t wire_type) noexcept nogil:
    """The value of a field that is not a group."""
    cdef uint64_t ignored = 0
    cdef Cursor part
    cdef Py_ssize_t fixed
    if wire_type == VARINT:
        return take_varint(cursor, &ignored)
    if wire_type == DELIMITED:
        return take_slice(cursor, &part)
    if wire_type == FIXED64 or wire_type == FIXED32:
        fixed = 8 if wire_type == FIXED64 else 4
        if cursor.left < fixed:
            return MALFORMED
        cursor.ptr += fixed
        cursor.left -= fixed
        return OK
    return MALFORMED


cdef inline Status skip_group(Cursor* cursor, uint32_t tag, int depth) noexcept nogil:
    """The rest of a group that `tag` opened. Its open groups stand in an array, not on the stack of calls."""
    cdef uint32_t[MAX_DEPTH] fields
    cdef int limit = MAX_DEPTH - depth
    cdef int count = 0
    while True:
        if tag & 7 == GROUP:
            if count >= limit:
                return MALFORMED
            fields[count] = tag >> 3
            count += 1
        elif tag & 7 == GROUP_END:
            count -= 1
            if fields[count] != tag >> 3:
                return MALFORMED
            if count == 0:
                return OK
        elif skip_value(cursor, tag & 7) != OK:
            return MALFORMED
        if take_any_tag(cursor, &tag) != OK:
            return MALFORMED


cdef inline Status skip_field(Cursor* cursor, uint32_t tag, int depth) noexcept nogil:
    """The value of an unknown field in a message that is `depth` messages below the outermost."""
    if tag & 7 == GROUP:
        return skip_group(cursor, tag, depth)
    return skip_value(cursor, tag & 7)


cdef inline Status skip_message(Cursor* cursor, int depth) noexcept nogil:
    """A whole message without fields in its schema. The official runtime reads it as it reads a group, so field number 0 goes through."""
    cdef uint32_t tag = 0
    while cursor.left > 0:
        if take_any_tag(cursor, &tag) != OK or skip_field(cursor, tag, depth) != OK:
            return MALFORMED
    return OK


# The fields of a message that has no messages in it, by number (all of ours are below 16). Begins as zeros.
cdef struct Flat:
    uint64_t[16] numbers
    Cursor[16] slices


cdef inline Status scan_value(
    Cursor* cursor, uint32_t tag, uint32_t numbers, uint32_t fixed, uint32_t slices, int depth, Flat* flat
) noexcept nogil:
    """One field into its place when the masks (bit n: field n) have it under this wire type, else skipped. A later value wins."""
    cdef uint32_t number = tag >> 3
    cdef uint32_t bit = <uint32_t>1 << number if number < 16 else 0
    if tag & 7 == VARINT and numbers & bit:
        return take_varint(cursor, &flat.numbers[number])
    if tag & 7 == DELIMITED and slices & bit:
        return take_slice(cursor, &flat.slices[number])
    if tag & 7 == FIXED64 and fixed & bit:
        return take_fixed64(cursor, &flat.numbers[number])
    return skip_field(cursor, tag, depth)


cdef inline Status scan_flat(Cursor cursor, uint32_t numbers, uint32_t fixed, uint32_t slices, int depth, Flat* flat) noexcept nogil:
    """A whole message onto what `flat` holds already: repeated messages of one field merge."""
    cdef uint32_t tag = 0
    while cursor.left > 0:
        if take_tag(&cursor, &tag) != OK or scan_value(&cursor, tag, numbers, fixed, slices, depth, flat) != OK:
            return MALFORMED
    return OK


# ------------------------------------------------------------------------------------------------------------------------- writing
# Writers answer where the next byte goes. Their callers reserve what the *_size functions say. All our field numbers are below 16, so a
# tag is one byte: field number << 3 | wire type.

cdef inline Py_ssize_t varint_size(uint64_t value) noexcept nogil:
    cdef Py_ssize_t size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


cdef inline Py_ssize_t varint_field_size(uint64_t value) noexcept nogil:
    """With its tag; 0 for the default, which proto3 leaves out."""
    return 1 + varint_size(value) if value else 0


cdef inline Py_ssize_t slice_size(Py_ssize_t length) noexcept nogil:
    """A tag, a length and that many bytes."""
    return 1 + varint_size(<uint64_t>length) + length


cdef inline Py_ssize_t bytes_field_size(Py_ssize_t length) noexcept nogil:
    """As `slice_size`; 0 for the default, which proto3 leaves out."""
    return slice_size(length) if length else 0


cdef inline uint8_t* put_varint(uint8_t* out, uint64_t value) noexcept nogil:
    while value >= 0x80:
        out[0] = <uint8_t>(value | 0x80)
        out += 1
        value >>= 7
    out[0] = <uint8_t>value
    return out + 1


cdef inline uint8_t* put_varint_field(uint8_t* out, uint8_t tag, uint64_t value) noexcept nogil:
    if value == 0:
        return out
    out[0] = tag
    return put_varint(out + 1, value)


cdef inline uint8_t* put_raw(uint8_t* out, const void* data, Py_ssize_t length) noexcept nogil:
    memcpy(out, data, <size_t>length)
    return out + length


cdef inline uint8_t* put_head(uint8_t* out, uint8_t tag, Py_ssize_t length) noexcept nogil:
    """The tag and the length of `length` bytes to come."""
    out[0] = tag
    return put_varint(out + 1, <uint64_t>length)


cdef inline uint8_t* put_bytes_field(uint8_t* out, uint8_t tag, const void* data, Py_ssize_t length) noexcept nogil:
    if length == 0:
        return out
    return put_raw(put_head(out, tag, length), data, length)


cdef inline void store64(uint8_t* at, uint64_t value) noexcept nogil:
    """Eight bytes, the lowest first, on a machine of any byte order."""
    at[0] = <uint8_t>value
    at[1] = <uint8_t>(value >> 8)
    at[2] = <uint8_t>(value >> 16)
    at[3] = <uint8_t>(value >> 24)
    at[4] = <uint8_t>(value >> 32)
    at[5] = <uint8_t>(value >> 40)
    at[6] = <uint8_t>(value >> 48)
    at[7] = <uint8_t>(value >> 56)


cdef inline uint8_t* put_fixed64(uint8_t* out, uint8_t tag, uint64_t value) noexcept nogil:
    """Written also when 0: its callers count on nine bytes."""
    out[0] = tag
    store64(out + 1, value)
    return out + 9
