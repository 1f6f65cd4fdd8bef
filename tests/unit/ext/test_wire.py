"""What `ext/wire` calls malformed, point by point, beside the official runtime's word on the same bytes.

`tests/fuzz/test_codec.py` finds what nobody thought of; this says what is known.
"""

from __future__ import annotations

import pytest

from tests.fuzz import oracle
from tests.fuzz.wiregen import delimited, varint

FF = b"\xff"

# Bytes of an Ack (up_to is field 3, guids field 2, tags field 1) or of unknown fields, and whether they are well formed.
CASES = {
    "varint of ten bytes": (b"\x18" + FF * 9 + b"\x01", True),
    "varint of ten bytes with bits above 64": (b"\x18" + FF * 9 + b"\x7f", True),
    "varint of eleven bytes": (b"\x18" + FF * 10 + b"\x00", False),
    "unknown varint of eleven bytes": (b"\x78" + FF * 10 + b"\x00", False),
    "varint longer than it need be": (b"\x18\x81" + b"\x80" * 8 + b"\x00", True),
    "varint without an end": (b"\x18\xff", False),
    "varint missing": (b"\x18", False),
    "tag of five bytes": (b"\x98\x80\x80\x80\x00\x05", True),
    "tag of six bytes": (b"\x98\x80\x80\x80\x80\x00\x05", False),
    "tag of all 32 bits": (b"\xf8\xff\xff\xff\x0f\x05", True),
    "tag above 32 bits": (b"\xf8\xff\xff\xff\x10\x05", False),
    "length of five bytes": (b"\x7a\x81\x80\x80\x80\x00\x05", True),
    "length of six bytes": (b"\x7a\x81\x80\x80\x80\x80\x00\x05", False),
    "length of 2^31": (b"\x7a\x80\x80\x80\x80\x08", False),
    "length of 2^31 - 1 without the bytes": (b"\x7a\xff\xff\xff\xff\x07", False),
    "length one beyond the end": (b"\x7a\x02\x05", False),
    "field number 0": (b"\x00\x05", False),
    "field number 0 in a group": (b"\x7b\x00\x05\x7c", True),
    "wire type 6": (b"\x7e", False),
    "wire type 7": (b"\x7f", False),
    "fixed64": (b"\x79" + bytes(8), True),
    "fixed64 cut": (b"\x79" + bytes(7), False),
    "fixed32": (b"\x7d" + bytes(4), True),
    "fixed32 cut": (b"\x7d" + bytes(3), False),
    "group": (b"\x7b\x7c", True),
    "group around fields": (b"\x7b\x08\x01\x12\x01a\x7c", True),
    "group closed by another number": (b"\x7b\x74", False),
    "group without an end": (b"\x7b", False),
    "end of a group that never began": (b"\x7c", False),
    "groups crossed": (b"\x7b\x73\x7c\x74", False),
    "number as bytes": (b"\x1a\x01\x05", True),
    "number as fixed64": (b"\x19" + bytes(8), True),
    "number as a group": (b"\x1b\x1c", True),
    "bytes as a number": (b"\x10\x05", True),
    "packed numbers": (b"\x0a\x03\x01\x80\x01", True),
    "packed numbers cut": (b"\x0a\x02\x01\x80", False),
    "packed numbers running over their end": (b"\x0a\x02\x01\x80\x08\x01", False),
    "numbers one by one": (b"\x08\x01\x08\x02", True),
    "no bytes at all": (b"", True),
}


@pytest.mark.requirement("MSG-4")
@pytest.mark.parametrize(("data", "accepted"), CASES.values(), ids=CASES)
def test_the_judgement_is_the_official_one(data: bytes, accepted: bool) -> None:
    assert oracle.client_frame(delimited(3, data)) == accepted


@pytest.mark.parametrize(
    ("data", "accepted"), [(b"\x00\x01", True), (b"\x02\x01a", True), (b"\x03\x04", True), (b"\x04", False), (b"\x06", False)]
)
def test_messages_without_fields_are_read_as_groups_are(data: bytes, accepted: bool) -> None:
    assert oracle.client_frame(delimited(4, data)) == accepted


@pytest.mark.parametrize(("path", "limit"), [((), 100), ((1,), 99), ((2,), 99), ((2, 7), 98), ((3,), 99), ((4,), 99)])
def test_groups_may_nest_until_messages_and_groups_are_100_deep(path: tuple[int, ...], limit: int) -> None:
    for depth in (1, limit, limit + 1, limit + 2):
        data = b"\x7b" * depth + b"\x7c" * depth
        for number in reversed(path):
            data = delimited(number, data)
        assert oracle.client_frame(data) == (depth <= limit)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**14 - 1, 2**14, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
def test_numbers_are_cut_to_their_fields_as_the_official_runtime_cuts_them(value: int) -> None:
    content = b"\x08" + varint(value) + b"\x10" + varint(value)
    send = b"\x18" + varint(value) + b"\x20" + varint(value) + b"\x28" + varint(value) + b"\x30" + varint(value) + delimited(7, content)
    assert oracle.client_frame(delimited(2, send))
    assert oracle.envelope(b"".join(varint(number << 3) + varint(value) for number in range(1, 16)))
    assert oracle.server_frame(b"".join(delimited(kind, varint(n << 3) + varint(value)) for kind in range(1, 7) for n in range(1, 16)))
