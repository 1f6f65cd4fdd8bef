"""Token buckets by 64-bit id, for limits that are judged at every message.

Owns its table. Knows no clock: every call is told the millisecond. Never forgets a bucket that is not full.
"""

cimport cython
from libc.stdint cimport INT64_MIN
from libc.stdlib cimport free, malloc


cdef enum:
    FEWEST = 64             # slots of a new table
    RESTING_MS = 1000       # between looks through a table that was full

cdef int64_t FREE = INT64_MIN
cdef int64_t MOST_TOKENS = 1_000_000_000


# The finalizer of SplitMix64: ids are small and follow one another, which linear probing must not see.
cdef inline uint64_t mixed(uint64_t key) noexcept:
    key = (key ^ (key >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    key = (key ^ (key >> 27)) * <uint64_t>0x94D049BB133111EB
    return key ^ (key >> 31)


cdef Slot* new_slots(Py_ssize_t number) except NULL:
    cdef Py_ssize_t i
    cdef Slot* slots = <Slot*>malloc(number * sizeof(Slot))
    if slots == NULL:
        raise MemoryError
    for i in range(number):
        slots[i].at = FREE
    return slots


@cython.final
cdef class Buckets:
    """Buckets that all have one size and one rate."""

    def __cinit__(self, int64_t rate, int64_t burst, Py_ssize_t entries):
        if not 0 < rate <= MOST_TOKENS or not 0 < burst <= MOST_TOKENS or not 0 < entries <= 1 << 30:
            raise ValueError("rate, burst and entries are 1 to a thousand million")
        self.rate = rate
        self.burst = burst
        self._most = entries
        self._mask = FEWEST - 1
        self._resting = FREE
        self._slots = new_slots(FEWEST)

    def __dealloc__(self):
        free(self._slots)

    def take(self, uint64_t key, int64_t now_ms, int64_t cost=1) -> int:
        """Take tokens. 0: they were there. Else nothing was taken, and they will be there after so many milliseconds."""
        cdef Slot* slot
        cdef int64_t taken, wait
        self.check(cost)
        slot = self.reach(key, now_ms)
        if slot == NULL:
            self.crowded += 1
            return RESTING_MS
        taken = self.settle(slot, now_ms)
        wait = self.wait_of(taken, cost * UNITS)
        if wait == 0:
            slot.taken = taken + cost * UNITS
        return wait

    def wait(self, uint64_t key, int64_t now_ms, int64_t cost=1) -> int:
        """Milliseconds until tokens are there; 0: they are. Takes nothing."""
        cdef Slot* spare = NULL
        cdef Slot* slot
        self.check(cost)
        slot = self.look(key, now_ms, &spare)
        return 0 if slot == NULL else self.wait_of(self.left_of(slot, now_ms), cost * UNITS)

    def refund(self, uint64_t key, int64_t now_ms, int64_t cost=1) -> None:
        """Put tokens back; a bucket never holds more than it can."""
        cdef Slot* spare = NULL
        cdef Slot* slot
        self.check(cost)
        slot = self.look(key, now_ms, &spare)
        if slot != NULL:
            slot.taken = max(self.settle(slot, now_ms) - cost * UNITS, 0)

    def taken(self, uint64_t key, int64_t now_ms) -> int:
        """What is missing in a bucket, in units: sixty thousand a token."""
        cdef Slot* spare = NULL
        cdef Slot* slot = self.look(key, now_ms, &spare)
        return 0 if slot == NULL else self.left_of(slot, now_ms)

    def learn(self, uint64_t key, int64_t now_ms, int64_t units) -> None:
        """So many units at least are missing, as others say: perhaps more than the bucket holds, which it will owe."""
        cdef Slot* slot
        if units <= 0:
            return
        slot = self.reach(key, now_ms)
        if slot != NULL:
            slot.taken = max(self.settle(slot, now_ms), min(units, MOST_TOKENS * UNITS))

    cdef int check(self, int64_t cost) except -1:
        if not 0 < cost <= self.burst:
            raise ValueError("a cost is 1 to what a full bucket holds")
        return 0

    cdef int64_t left_of(self, Slot* slot, int64_t now) noexcept:
        cdef int64_t elapsed = now - slot.at
        if elapsed <= 0:
            return slot.taken
        # By division first: a long absence times the rate may not fit.
        return 0 if elapsed > slot.taken // self.rate else slot.taken - elapsed * self.rate

    cdef int64_t settle(self, Slot* slot, int64_t now) noexcept:
        slot.taken = self.left_of(slot, now)
        slot.at = max(slot.at, now)
        return slot.taken

    cdef int64_t wait_of(self, int64_t taken, int64_t cost) noexcept:
        cdef int64_t over = taken + cost - self.burst * UNITS
        return 0 if over <= 0 else (over + self.rate - 1) // self.rate

    cdef Slot* look(self, uint64_t key, int64_t now, Slot** spare) noexcept:
        cdef Py_ssize_t at = <Py_ssize_t>(mixed(key) & <uint64_t>self._mask)
        cdef Slot* slot
        while True:
            slot = &self._slots[at]
            if slot.at == FREE:
                return NULL
            if slot.key == key:
                return slot
            if spare[0] == NULL and self.left_of(slot, now) == 0:
                spare[0] = slot
            at = (at + 1) & self._mask

    cdef Slot* reach(self, uint64_t key, int64_t now) except? NULL:
        cdef Slot* spare = NULL
        cdef Slot* slot = self.look(key, now, &spare)
        cdef Py_ssize_t at
        if slot != NULL:
            return slot
        if spare == NULL:
            if self.used >= self._most:
                if now < self._resting:
                    return NULL
                self._resting = now + RESTING_MS   # one look through all of them may find one full bucket, and the next one again
                self.rebuild(now)
                if self.used >= self._most:
                    return NULL
            elif 4 * (self.used + 1) > 3 * (self._mask + 1):
                self.rebuild(now)
            at = <Py_ssize_t>(mixed(key) & <uint64_t>self._mask)
            while self._slots[at].at != FREE:
                at = (at + 1) & self._mask
            spare = &self._slots[at]
            self.used += 1
        spare.key = key
        spare.taken = 0
        spare.at = now
        return spare

    cdef int rebuild(self, int64_t now) except -1:
        """Leave out what is full, in as many slots as the rest needs: at most half of them are in use afterwards."""
        cdef Py_ssize_t i, at, kept = 0, number = FEWEST
        cdef Slot* old = self._slots
        cdef Slot* slots
        for i in range(self._mask + 1):
            kept += old[i].at != FREE and self.left_of(&old[i], now) > 0
        while number < 2 * (kept + 1):
            number *= 2
        slots = new_slots(number)
        for i in range(self._mask + 1):
            if old[i].at != FREE and self.left_of(&old[i], now) > 0:
                at = <Py_ssize_t>(mixed(old[i].key) & <uint64_t>(number - 1))
                while slots[at].at != FREE:
                    at = (at + 1) & (number - 1)
                slots[at] = old[i]
        free(old)
        self._slots = slots
        self._mask = number - 1
        self.used = kept
        return 0
