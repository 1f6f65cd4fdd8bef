"""SipHash-2-4 with 128 bits of output over words, for callers that hash without assembling a buffer first.

Owns the algorithm (Aumasson and Bernstein, 2012) and the key of digests. Never a defence: the key is fixed and public, see `digest.pyx`.
"""

from libc.stdint cimport uint8_t, uint64_t

from veredus.ext.wire cimport load64, store64


cdef struct SipHash:
    uint64_t v0
    uint64_t v1
    uint64_t v2
    uint64_t v3
    uint64_t length   # bytes so far, for the last block


cdef inline uint64_t rotl(uint64_t x, int bits) noexcept nogil:
    return x << bits | x >> (64 - bits)


cdef inline void siphash_round(SipHash* h) noexcept nogil:
    h.v0 += h.v1
    h.v2 += h.v3
    h.v1 = rotl(h.v1, 13) ^ h.v0
    h.v3 = rotl(h.v3, 16) ^ h.v2
    h.v0 = rotl(h.v0, 32)
    h.v2 += h.v1
    h.v0 += h.v3
    h.v1 = rotl(h.v1, 17) ^ h.v2
    h.v3 = rotl(h.v3, 21) ^ h.v0
    h.v2 = rotl(h.v2, 32)


cdef inline void siphash_begin(SipHash* h, uint64_t k0, uint64_t k1) noexcept nogil:
    h.v0 = <uint64_t>0x736F6D6570736575 ^ k0
    h.v1 = <uint64_t>0x646F72616E646F6D ^ k1 ^ 0xEE   # 0xEE marks the variant with 128 bits of output
    h.v2 = <uint64_t>0x6C7967656E657261 ^ k0
    h.v3 = <uint64_t>0x7465646279746573 ^ k1
    h.length = 0


cdef inline void siphash_block(SipHash* h, uint64_t word) noexcept nogil:
    h.v3 ^= word
    siphash_round(h)
    siphash_round(h)
    h.v0 ^= word


cdef inline void siphash_word(SipHash* h, uint64_t word) noexcept nogil:
    """Eight bytes of input."""
    siphash_block(h, word)
    h.length += 8


cdef inline uint64_t partial_word(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    """Fewer than eight bytes, the lowest first, the rest zero."""
    cdef uint64_t word = 0
    cdef Py_ssize_t i
    for i in range(size):
        word |= <uint64_t>data[i] << (8 * i)
    return word


cdef inline void siphash_words(SipHash* h, const uint8_t* data, Py_ssize_t words) noexcept nogil:
    """8 * `words` bytes of input."""
    cdef SipHash state = h[0]   # a copy, so that the compiler keeps it in registers
    cdef Py_ssize_t i
    for i in range(words):
        siphash_block(&state, load64(data + 8 * i))
    state.length += <uint64_t>(8 * words)
    h[0] = state


cdef inline void siphash_padded(SipHash* h, const uint8_t* data, Py_ssize_t size) noexcept nogil:
    """`size` bytes and zeros up to a whole word. Only unambiguous where the size was hashed before."""
    siphash_words(h, data, size >> 3)
    if size & 7:
        siphash_word(h, partial_word(data + (size & ~<Py_ssize_t>7), size & 7))


cdef inline void siphash_end(SipHash* h, const uint8_t* tail, Py_ssize_t size, uint8_t* out) noexcept nogil:
    """The last, fewer than eight, bytes of input; writes the 16 bytes of output."""
    cdef int i
    siphash_block(h, (h.length + <uint64_t>size) << 56 | partial_word(tail, size))
    h.v2 ^= 0xEE
    for i in range(4):
        siphash_round(h)
    store64(out, h.v0 ^ h.v1 ^ h.v2 ^ h.v3)
    h.v1 ^= 0xDD
    for i in range(4):
        siphash_round(h)
    store64(out + 8, h.v0 ^ h.v1 ^ h.v2 ^ h.v3)


# The key of message digests: the first 128 bits of the fraction of pi. Fixed for ever, since digests are stored and compared across
# workers and versions.
cdef inline void digest_begin(SipHash* h) noexcept nogil:
    siphash_begin(h, <uint64_t>0x243F6A8885A308D3, <uint64_t>0x13198A2E03707344)
