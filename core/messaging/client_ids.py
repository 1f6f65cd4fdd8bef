"""The idempotency key of a send whose client chose none (HTTP): derived, so that a repeated request is still one message."""

from __future__ import annotations

from hashlib import blake2b


def derived_client_id(destination: bytes, client_timestamp: int, digest: bytes) -> bytes:
    """16 bytes that depend on nothing else: the same request gives the same key, in every process and for ever.

    The sender is not part of it, since keys are stored per sender. Two different messages of one millisecond differ by their digest.
    """
    data = destination + client_timestamp.to_bytes(8, "big") + digest
    return blake2b(data, digest_size=16, person=b"veredus key").digest()
