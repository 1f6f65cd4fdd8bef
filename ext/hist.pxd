"""A histogram of durations: fixed memory, one addition a value, quantiles within 0.8 %. The header."""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    SUB_BITS = 7                            # 128 buckets an octave: a bucket is at most 1/128 of its value wide
    SUB = 1 << SUB_BITS
    BUCKETS = (64 - SUB_BITS + 1) * SUB     # every 64-bit value has one


cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil


# Small values have a bucket each; above, the highest SUB_BITS + 1 bits of the value choose.
cdef inline Py_ssize_t bucket_of(uint64_t value) noexcept nogil:
    cdef int shift
    if value < SUB:
        return <Py_ssize_t>value
    shift = 64 - SUB_BITS - 1 - __builtin_clzll(value)
    return (shift + 1) * SUB + <Py_ssize_t>(value >> shift) - SUB


cdef class Histogram:
    cdef:
        uint64_t* _counts
        readonly uint64_t count
        readonly uint64_t largest

    cdef void add(self, uint64_t value) noexcept nogil
