"""A consistent-hash ring: which of some members a 64-bit key belongs to. Says the same in every process with the same membership.

Owns its arrays. Knows neither what members are nor whether they live: whoever changes the membership builds another ring.

Theory of operation. A member of weight w has 512 w points on a circle of 2**64, and a key belongs to the member of the first point at or
after its own. So a member that leaves gives its keys to the others and no other key moves; one that joins only takes. Points come from
SipHash-2-4 with 128 bits (Aumasson and Bernstein, 2012) of the member's name and a number, two from each hash; keys, which may follow
one another, are mixed by SplitMix64. Both are fixed for ever: workers of different versions must agree.
"""

cimport cython
from libc.stdlib cimport calloc, free

from collections.abc import Mapping

from veredus.ext.digest import siphash128

cdef bytes KEY = b"veredus ring key"


@cython.final
cdef class Ring:
    """Members and the keys that belong to each."""

    def __cinit__(self, members):
        cdef dict weighed = weighed_members(members)
        self.members = tuple(weighed)
        self.weights = tuple(weighed.values())
        self.signature = signature_of(weighed)
        self._fill(sorted(points_of(weighed)))

    def __dealloc__(self):
        free(self._points)
        free(self._owners)
        free(self._before)

    def _fill(self, list points) -> None:
        """Take over points, each with its owner's index in the lowest 32 bits."""
        cdef int bits = (len(points) - 1).bit_length()
        cdef Py_ssize_t parts = <Py_ssize_t>1 << bits
        cdef Py_ssize_t i
        self._size = len(points)
        self._shift = 64 - bits
        self._points = <uint64_t*>calloc(self._size, sizeof(uint64_t))
        self._owners = <uint32_t*>calloc(self._size + 1, sizeof(uint32_t))
        self._before = <uint32_t*>calloc(parts + 1, sizeof(uint32_t))
        if self._points == NULL or self._owners == NULL or self._before == NULL:
            raise MemoryError
        for i in range(self._size):
            self._points[i] = points[i] >> 32
            self._owners[i] = points[i] & 0xFFFFFFFF
            self._before[(self._points[i] >> self._shift) + 1] += 1
        self._owners[self._size] = self._owners[0]
        for i in range(parts):
            self._before[i + 1] += self._before[i]

    cdef Py_ssize_t _position(self, uint64_t key) noexcept nogil:
        cdef uint64_t point = mixed(key)
        cdef uint64_t part = point >> self._shift
        cdef Py_ssize_t low = self._before[part]
        cdef Py_ssize_t high = self._before[part + 1]
        cdef Py_ssize_t middle
        while low < high:
            middle = (low + high) >> 1
            if self._points[middle] < point:
                low = middle + 1
            else:
                high = middle
        return low

    cdef uint32_t owner_index(self, uint64_t key) noexcept nogil:
        return self._owners[self._position(key)]

    cpdef str owner(self, uint64_t key):
        """The member that a key belongs to."""
        return <str>self.members[self.owner_index(key)]

    def owners(self, uint64_t key, Py_ssize_t count) -> tuple[str, ...]:
        """Up to `count` different members: the owner, who would own the key without him, and so on."""
        cdef Py_ssize_t at = self._position(key)
        cdef Py_ssize_t i
        cdef list found = []
        cdef set seen = set()
        count = min(count, <Py_ssize_t>len(self.members))
        for i in range(self._size):
            if len(found) >= count:
                break
            index = self._owners[(at + i) % self._size]
            if index not in seen:
                seen.add(index)
                found.append(self.members[index])
        return tuple(found)

    def split(self, keys) -> list[list[int]]:
        """The same keys, those of each member together in their order; a list for each of `members`."""
        cdef list parts = [[] for _ in self.members]
        for key in keys:
            (<list>parts[self.owner_index(key)]).append(key)
        return parts


def key_of(str name) -> int:
    """A key for what has a name and no number: the same in every process."""
    return first_half(name.encode())


cdef uint64_t first_half(bytes data) except? 0:
    return int.from_bytes(siphash128(KEY, data)[:8], "little")


cdef dict weighed_members(members):
    """Weights by name, sorted by name, so that order plays no part."""
    cdef dict weighed
    if isinstance(members, Mapping):
        weighed = dict(members)
    else:
        names = list(members)
        weighed = dict.fromkeys(names, 1)
        if len(weighed) != len(names):
            raise ValueError("a member stands twice")
    if not weighed:
        raise ValueError("a ring has at least one member")
    if any(weight < 1 for weight in weighed.values()):
        raise ValueError("a weight is at least 1")
    if sum(weighed.values()) * POINTS > MOST_POINTS:
        raise ValueError(f"weights add up to at most {MOST_POINTS // POINTS}")
    return dict(sorted(weighed.items()))


cdef uint64_t signature_of(dict weighed) except? 0:
    parts = (len(data).to_bytes(8, "little") + data + weight.to_bytes(8, "little") for data, weight in encoded(weighed))
    return first_half(b"".join(parts))


def points_of(dict weighed):
    """Every point, with its owner's index in the lowest 32 bits. Two members on one point: the first by name has it."""
    for index, (data, weight) in enumerate(encoded(weighed)):
        for number in range(weight * POINTS // 2):
            hashed = siphash128(KEY, data + number.to_bytes(8, "little"))
            yield int.from_bytes(hashed[:8], "little") << 32 | index
            yield int.from_bytes(hashed[8:], "little") << 32 | index


cdef list encoded(dict weighed):
    return [(name.encode(), weight) for name, weight in weighed.items()]
