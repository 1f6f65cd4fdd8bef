"""Random wire bytes along a message's schema: fields in any order, repeated, padded, of the wrong type, unknown, and now and then broken.

What they mean is for the official runtime to say; this only makes sure that every branch of a parser is met.
"""

from __future__ import annotations

from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field

TRICKY = [0, 1, 2, 3, 6, 8, 127, 128, 300, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
UNKNOWN = [10, 11, 14, 15, 16, 17, 2047, 2048, 2**29 - 1]
BROKEN = [b"\x00\x01", b"\x02\x00", b"\x80", b"\x0f", b"\x0e\x00", b"\x7c", b"\x7b", b"\x12\xff\xff\xff\xff\x0f", b"\xff" * 11]
DEEP = [1, 2, 97, 98, 99, 100, 101]


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


class Generator:
    """Bytes of one message after another from one source of randomness; `faults` is how likely a piece is broken."""

    def __init__(self, random: Random, faults: float = 0.01) -> None:
        self._random = random
        self._faults = faults

    def message(self, schema: Any, depth: int = 0) -> bytes:
        size = self._random.choice((0, 1, 2, 4, 8)) if depth else self._random.choice((1, 2, 3))
        return b"".join(self._piece(schema, depth) for _ in range(size))

    def _piece(self, schema: Any, depth: int) -> bytes:
        dice = self._random.random()
        if dice < self._faults:
            return self._random.choice(BROKEN)
        if dice < 0.12 or not schema.fields:
            return self._unknown(self._random.choice(UNKNOWN))
        field = self._random.choice(schema.fields)
        if dice < 0.18:
            return self._unknown(field.number)
        return self._known(field, depth)

    def _known(self, field: Field, depth: int) -> bytes:
        number = field.number
        if field.message_type is not None:
            return self._head(number, 2, self.message(field.message_type, depth + 1))
        if field.type in (Field.TYPE_BYTES, Field.TYPE_STRING):
            return self._head(number, 2, self._text(field))
        if field.type == Field.TYPE_FIXED64:
            return varint(number << 3 | 1) + self._random.randbytes(8)
        if field.is_repeated and self._random.random() < 0.5:
            return self._head(number, 2, b"".join(self._number() for _ in range(self._random.randrange(4))))
        return varint(number << 3) + self._number()

    def _head(self, number: int, wire_type: int, data: bytes) -> bytes:
        return self._padded(number << 3 | wire_type, 5) + self._padded(len(data), 5) + data

    def _text(self, field: Field) -> bytes:
        if field.type == Field.TYPE_STRING:
            return self._random.choice(("", "a", "ünï", "\U0001f40e", "\0", "x" * 130)).encode()
        return self._random.randbytes(self._random.choice((16, 16, 16, 16, 16, 16, 0, 1, 15, 17, 48, 49, 70, 130)))

    def _number(self) -> bytes:
        return self._padded(self._random.choice(TRICKY) if self._random.random() < 0.7 else self._random.randrange(1, 4), 10)

    def _padded(self, value: int, most: int) -> bytes:
        """A varint, sometimes longer than it need be: up to `most` bytes, rarely one more, which is malformed."""
        encoded = varint(value)
        if self._random.random() < 0.95 or len(encoded) >= most:
            return encoded
        size = most + 1 if self._random.random() < self._faults else self._random.randrange(len(encoded) + 1, most + 1)
        return encoded[:-1] + bytes([encoded[-1] | 0x80]) + b"\x80" * (size - len(encoded) - 1) + b"\x00"

    def _unknown(self, number: int) -> bytes:
        kind = self._random.choice((0, 1, 2, 3, 5))
        if kind == 0:
            return varint(number << 3) + self._number()
        if kind in (1, 5):
            return varint(number << 3 | kind) + self._random.randbytes(8 if kind == 1 else 4)
        if kind == 2:
            return self._head(number, 2, self._random.randbytes(self._random.randrange(9)))
        return self._group(number)

    def _group(self, number: int) -> bytes:
        depth = self._random.choice(DEEP) if self._random.random() < 0.3 else 1
        inside = b"".join(self._unknown(self._random.choice((0, *UNKNOWN))) for _ in range(self._random.randrange(2)))
        end = number + 1 if self._random.random() < self._faults else number
        return varint(number << 3 | 3) * depth + inside + varint(end << 3 | 4) * depth
