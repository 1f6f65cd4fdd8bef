"""Half-received messages and the budget they are charged to."""


# Bytes that all half-received messages of a worker may hold together. Counts what is held, never what a peer announces.
cdef class Budget:
    cdef:
        readonly Py_ssize_t limit
        readonly Py_ssize_t used
        readonly Py_ssize_t peak
        readonly unsigned long long refused   # times that take() said no

    cdef bint take(self, Py_ssize_t size) noexcept        # False: over the limit, nothing was taken
    cdef void give_back(self, Py_ssize_t size) noexcept


# The bytes of one unfinished message. Memory exists only between the first piece and release().
cdef struct Partial:
    char* data
    Py_ssize_t size
    Py_ssize_t capacity   # what the budget is charged


# Adds a piece. False: the budget is used up, or the machine's memory is; the message keeps what it had.
cdef bint partial_append(Partial* message, const char* piece, Py_ssize_t size, Budget budget) noexcept
cdef void partial_release(Partial* message, Budget budget) noexcept
