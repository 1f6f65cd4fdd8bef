"""Token buckets by 64-bit id in one bounded table: no timer, no allocation per bucket. The header."""

from libc.stdint cimport int64_t, uint64_t


cdef enum:
    UNITS = 60_000      # of one token: a rate of n per minute is n units a millisecond, so all is exact in integers


# Theory of operation: a bucket is told by what was taken out of it and has not flowed back. One with nothing taken is full, and like one that
# was never seen: its slot may be used for another id. Slots are found by linear probing and never emptied but when the table is built anew.
cdef struct Slot:
    uint64_t key
    int64_t taken       # units
    int64_t at          # the millisecond `taken` was true; FREE: nobody was ever here


cdef class Buckets:
    cdef:
        Slot* _slots
        Py_ssize_t _mask            # slots - 1, a power of two
        Py_ssize_t _most            # slots in use, at most
        int64_t _resting            # no room was made last: none is made before this millisecond
        readonly Py_ssize_t used    # slots in use
        readonly int64_t rate       # tokens a minute
        readonly int64_t burst      # tokens a full bucket holds
        readonly uint64_t crowded   # takes refused because the table was full

    # The slot of a key, made when there is none; NULL when the table is full. May build the table anew.
    cdef Slot* reach(self, uint64_t key, int64_t now) except? NULL
    # The slot of a key; NULL when there is none. `*spare` is a slot of its chain that it may have.
    cdef Slot* look(self, uint64_t key, int64_t now, Slot** spare) noexcept
    cdef int check(self, int64_t cost) except -1
    cdef int rebuild(self, int64_t now) except -1
    # What is taken now, and write that down.
    cdef int64_t settle(self, Slot* slot, int64_t now) noexcept
    cdef int64_t left_of(self, Slot* slot, int64_t now) noexcept
    # Milliseconds until so much more can be taken; 0: now.
    cdef int64_t wait_of(self, int64_t taken, int64_t cost) noexcept
