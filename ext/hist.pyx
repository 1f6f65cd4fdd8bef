"""A histogram of durations, for latencies of single messages and whoever shows them.

Owns its counts. Knows neither units nor clocks; values are whatever its user counts in.
"""

cimport cython
from libc.stdlib cimport calloc, free


@cython.final
cdef class Histogram:
    """Counts of values by size."""

    def __cinit__(self):
        self._counts = <uint64_t*>calloc(BUCKETS, sizeof(uint64_t))
        if self._counts == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._counts)

    cdef void add(self, uint64_t value) noexcept nogil:
        self._counts[bucket_of(value)] += 1
        self.count += 1
        if value > self.largest:
            self.largest = value

    def record(self, uint64_t value) -> None:
        """Count one value."""
        self.add(value)

    def quantile(self, double share) -> int:
        """The value that `share` (0 to 1) of all are at or below: the upper end of its bucket, never above the largest; 0 when empty."""
        cdef uint64_t seen = 0
        cdef uint64_t wanted = <uint64_t>(share * <double>self.count + 0.999999999)
        cdef Py_ssize_t i
        if wanted == 0:
            wanted = 1
        for i in range(BUCKETS):
            seen += self._counts[i]
            if seen >= wanted:
                return min(upper_end(i), self.largest)
        return self.largest

    def counts(self) -> dict[int, int]:
        """Buckets that are not empty, for `merge`."""
        cdef Py_ssize_t i
        return {i: self._counts[i] for i in range(BUCKETS) if self._counts[i]}

    def merge(self, counts, uint64_t largest) -> None:
        """Add another histogram's counts. Raises IndexError on a bucket that does not exist."""
        cdef uint64_t number
        for i, number in counts.items():
            if not 0 <= i < BUCKETS:
                raise IndexError("no such bucket")
            self._counts[<Py_ssize_t>i] += number
            self.count += number
        self.largest = max(self.largest, largest)


cdef uint64_t upper_end(Py_ssize_t index) noexcept nogil:
    cdef int shift
    if index < SUB:
        return <uint64_t>index
    shift = <int>(index // SUB) - 1
    return ((<uint64_t>(index % SUB) + SUB + 1) << shift) - 1
