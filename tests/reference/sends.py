"""How a send is judged and digested, on plain values: the model that `ext/envelope` must equal."""

from __future__ import annotations

from collections.abc import Sequence

from tests.reference.siphash import siphash128
from veredus.core.errors import Code

PI = bytes.fromhex("d308a385886a3f24447370032e8a1913")  # the digest key: 0x243F6A8885A308D3, 0x13198A2E03707344
SEALED = 6
SENDABLE = (1, 3, SEALED, 8)  # CIPHERTEXT, PREKEY_BUNDLE, SEALED, PLAINTEXT

Contents = Sequence[tuple[int, int, bytes, int]]  # device, registration, content, own type (0: the send's)


def types_of(type: int, contents: Contents) -> list[int]:
    """The type that holds for each content."""
    return [own or type for _, _, _, own in contents]


def judge(client_id: bytes, destination: bytes, type: int, contents: Contents, max_content: int, max_devices: int) -> Code:
    devices = [device for device, _, _, _ in contents]
    types = set(types_of(type, contents))
    if len(client_id) != 16:
        return Code.INVALID_CLIENT_ID
    if len(destination) != 16 or not contents:
        return Code.INVALID_DESTINATION
    if len(contents) > max_devices:
        return Code.TOO_LARGE
    if type not in (0, *SENDABLE) or not types <= set(SENDABLE) or (SEALED in types and types != {SEALED}):
        return Code.INVALID_TYPE
    if len(set(devices)) < len(devices) or not all(0 < device < 2**31 for device in devices):
        return Code.INVALID_DESTINATION
    if any(len(content) > max_content for _, _, content, _ in contents):
        return Code.TOO_LARGE
    return Code.OK


def digest(destination: bytes, type: int, urgent: bool, ephemeral: bool, contents: Contents) -> bytes:
    def word(value: int) -> bytes:
        return value.to_bytes(8, "little")

    text = destination + word(urgent << 1 | ephemeral)
    for device, registration_id, content, own in contents:
        text += word(device << 32 | registration_id) + word((own or type) << 32 | len(content)) + content + bytes(-len(content) % 8)
    return siphash128(PI, text)
