"""SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012)."""

def siphash128(key: bytes, data: bytes) -> bytes:
    """SipHash-2-4 with 16 bytes of output; `key` is 16 bytes, else ValueError."""
