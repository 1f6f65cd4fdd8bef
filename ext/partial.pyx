"""Half-received messages and the budget they are charged to (P6).

Owns the memory of unfinished messages and the sum of it. Never decides what becomes of a connection that finds the budget used up.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy


# First piece of memory of an unfinished message: most are small, and growing doubles.
cdef enum:
    SMALLEST = 2048


cdef class Budget:
    """A sum of bytes with a limit. `used` is exact: memory is charged by what was allocated."""

    def __init__(self, Py_ssize_t limit) -> None:
        self.limit = limit

    cdef bint take(self, Py_ssize_t size) noexcept:
        if self.used + size > self.limit:
            self.refused += 1
            return False
        self.used += size
        if self.used > self.peak:
            self.peak = self.used
        return True

    cdef void give_back(self, Py_ssize_t size) noexcept:
        self.used -= size


cdef bint partial_append(Partial* message, const char* piece, Py_ssize_t size, Budget budget) noexcept:
    cdef Py_ssize_t needed = message.size + size
    cdef Py_ssize_t capacity = message.capacity
    cdef char* data
    if needed > capacity:
        # By a half, not by doubling: what is charged is at most 1.5 times what came.
        capacity = max(SMALLEST, needed, capacity + capacity // 2)
        if not budget.take(capacity - message.capacity):
            return False
        data = <char*>realloc(message.data, capacity)
        if data == NULL:
            budget.give_back(capacity - message.capacity)
            return False
        message.data = data
        message.capacity = capacity
    memcpy(message.data + message.size, piece, size)
    message.size = needed
    return True


cdef void partial_release(Partial* message, Budget budget) noexcept:
    free(message.data)
    budget.give_back(message.capacity)
    message.data = NULL
    message.size = 0
    message.capacity = 0
