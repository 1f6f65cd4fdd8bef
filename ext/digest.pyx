"""SipHash-2-4-128 for Python: what `ext/digest.pxd` does, over one buffer. Holds no state.

A digest tells a sender's honest repeat from another message under the same client id by mistake. It is no defence against an enemy: the
key is public, and whoever can choose client ids could only ever deceive himself. 128 bits make an accidental match negligible.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from veredus.ext.wire cimport load64


def siphash128(key: bytes, data: bytes) -> bytes:
    """SipHash-2-4 with 16 bytes of output; `key` is 16 bytes, else ValueError."""
    cdef SipHash h
    cdef const uint8_t* k
    cdef const uint8_t* at
    cdef uint8_t[16] out
    cdef Py_ssize_t size
    if len(key) != 16:
        raise ValueError("a SipHash key is 16 bytes")
    k = <const uint8_t*>PyBytes_AS_STRING(key)
    at = <const uint8_t*>PyBytes_AS_STRING(data)
    size = len(data)
    siphash_begin(&h, load64(k), load64(k + 8))
    siphash_words(&h, at, size >> 3)
    siphash_end(&h, at + (size & ~<Py_ssize_t>7), size & 7, out)
    return PyBytes_FromStringAndSize(<char*>out, 16)
