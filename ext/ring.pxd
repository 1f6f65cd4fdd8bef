"""A consistent-hash ring over 64-bit points. Immutable once built: lookups need no lock and no GIL. The header."""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    # Points of a member of weight 1. The spread of a member's share is 1 / sqrt(POINTS) of it: 4.4 %; nobody is a quarter off.
    # Twice as many would win 1.3 % and cost the caches twice the room: a member takes 8 KiB of them now.
    POINTS = 512
    MOST_POINTS = 1 << 22   # of a ring, about 80 MB: above it somebody took weights for percentages of a large number


# SplitMix64's output function (Steele, Lea and Flood, 2014; the finaliser is Stafford's variant 13): a bijection under which successive
# numbers, as device ids are, lie anywhere.
cdef inline uint64_t mixed(uint64_t key) noexcept nogil:
    key += <uint64_t>0x9E3779B97F4A7C15
    key = (key ^ key >> 30) * <uint64_t>0xBF58476D1CE4E5B9
    key = (key ^ key >> 27) * <uint64_t>0x94D049BB133111EB
    return key ^ key >> 31


cdef class Ring:
    cdef:
        # Sorted points and, in parallel, the index of the owner of each; one owner more than points, the first again.
        uint64_t* _points
        uint32_t* _owners
        Py_ssize_t _size

        # By the highest bits of a point, as many as make one point a part on average: how many points lie in lower parts.
        uint32_t* _before
        int _shift

        # Members by index, sorted by name, and their weights; equal membership gives an equal signature.
        readonly tuple members
        readonly tuple weights
        readonly uint64_t signature

    cdef Py_ssize_t _position(self, uint64_t key) noexcept nogil     # of the first point at or after the key's; `_size` behind the last
    cdef uint32_t owner_index(self, uint64_t key) noexcept nogil     # O(1) on average, O(log n) always; an empty ring cannot be built
    cpdef str owner(self, uint64_t key)
