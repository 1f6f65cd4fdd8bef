"""The listening sockets of all workers, held by the supervisor. Owns binding and inheritance; accepts nothing.

Theory of operation. Each worker slot has its own SO_REUSEPORT socket per address, and the kernel spreads connections over them by hash. The
supervisor keeps all of them open for its whole life: while a worker is replaced, connections of its slot wait in the socket's queue and are
taken by the successor. A worker must close the sockets of other slots: a copy held by a worker that never accepts on it would keep a
closed slot listening. Sockets given by a service manager are shared by all workers, since only the manager could make more of them.

SO_REUSEPORT would also let a second server of the same user take half of our connections without a word. So an address is bound once
without it first, which fails when anybody listens there.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from veredus.server.failure import StartFailed

BACKLOG = 4096  # Linux' default of net.core.somaxconn, which caps it; must hold what arrives while a worker is replaced
# The receive window of a connection (the kernel doubles it), as in server/ws/sockets.py. Fixed: the kernel would let one that we do not
# read hold megabytes.
RECEIVE_BUFFER = 128 * 1024
FIRST_GIVEN = 3  # SD_LISTEN_FDS_START
RETRY_SECONDS = 0.05


class Address(NamedTuple):
    """Where to listen. Port 0 means any free one. `name` says what for; a service manager's FileDescriptorName= has the same role."""

    host: str
    port: int
    name: str = "http"


class Listener(NamedTuple):
    name: str
    socket: socket.socket


class Listeners:
    """Sockets by slot."""

    def __init__(self, by_slot: Sequence[tuple[Listener, ...]]) -> None:
        self._by_slot = tuple(by_slot)

    def of(self, slot: int) -> tuple[Listener, ...]:
        return self._by_slot[slot]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """What is bound, with real ports. A Unix socket has its path as host and port 0."""
        return tuple(_address_of(listener) for listener in self._by_slot[0])

    def keep_only(self, slot: int) -> None:
        """In a worker: close everybody else's."""
        kept = {listener.socket for listener in self._by_slot[slot]}
        for listeners in self._by_slot:
            for listener in listeners:
                if listener.socket not in kept:
                    listener.socket.close()

    def close(self) -> None:
        for listeners in self._by_slot:
            for listener in listeners:
                listener.socket.close()


def open_listeners(addresses: Sequence[Address], slots: int, wait_seconds: float) -> Listeners:
    """A socket per slot and address, all listening. An address in use is tried again for `wait_seconds`. Raises StartFailed."""
    made: list[list[Listener]] = [[] for _ in range(slots)]
    try:
        for address in addresses:
            for family, where in _resolve(address):
                _wait_until_free(address, family, where, time.monotonic() + wait_seconds)
                for listeners in made:
                    listener = Listener(address.name, _listen(address, family, where))
                    listeners.append(listener)
                    where = listener.socket.getsockname()  # port 0 is a real one from here on
    except BaseException:
        Listeners([tuple(listeners) for listeners in made]).close()
        raise
    return Listeners([tuple(listeners) for listeners in made])


def given_listeners(environ: MutableMapping[str, str], slots: int) -> Listeners | None:
    """The sockets a service manager passed (sd_listen_fds(3)), the same for every slot; None when it passed none.

    Takes its variables out of `environ`, so that no child believes they are meant for it. Raises StartFailed on anything but listening
    stream sockets.
    """
    variables = {name: environ.pop(name) for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES") if name in environ}
    if variables.get("LISTEN_PID") != str(os.getpid()):
        return None
    fds = _given_range(_number(variables, "LISTEN_FDS"))
    names = variables.get("LISTEN_FDNAMES", "").split(":")
    if not fds:
        return None
    listeners = tuple(_adopt(fd, names[at] if at < len(names) and names[at] else "unknown") for at, fd in enumerate(fds))
    return Listeners([listeners] * slots)


def _given_range(count: int) -> Sequence[int]:
    return range(FIRST_GIVEN, FIRST_GIVEN + count)


def _number(variables: Mapping[str, str], name: str) -> int:
    try:
        return int(variables.get(name, "0"))
    except ValueError:
        raise StartFailed(f"{name}: not a number") from None


def _adopt(fd: int, name: str) -> Listener:
    try:
        os.set_inheritable(fd, False)
        adopted = socket.socket(fileno=fd)
    except OSError as error:
        raise StartFailed(f"the file descriptor {fd} given by the service manager: {error.strerror}") from None
    if adopted.type != socket.SOCK_STREAM or not adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        adopted.close()
        raise StartFailed(f"the file descriptor {fd} given by the service manager is not a listening stream socket")
    adopted.setblocking(False)
    if adopted.family != socket.AF_UNIX:
        adopted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return Listener(name, adopted)


def _resolve(address: Address) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Each numeric address of the host, once."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise StartFailed(f"cannot listen on {address.host}: {error.strerror}") from None
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found))


def _wait_until_free(address: Address, family: socket.AddressFamily, where: tuple[Any, ...], deadline: float) -> None:
    def probe() -> None:
        _bound(family, where, reuseport=False).close()

    while not _refused(address, probe):
        if time.monotonic() >= deadline:
            raise StartFailed(f"cannot listen on {address.host} port {address.port}: another process does")
        time.sleep(RETRY_SECONDS)  # nothing tells when an address becomes free


def _refused(address: Address, bind: Callable[[], None]) -> bool:
    """True when it worked, False when the address is in use."""
    try:
        bind()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise StartFailed(f"cannot listen on {address.host} port {address.port}: {error.strerror}") from None
    return True


def _listen(address: Address, family: socket.AddressFamily, where: tuple[Any, ...]) -> socket.socket:
    made: socket.socket | None = None
    try:
        made = _bound(family, where, reuseport=True)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)  # inherited by connections; must precede listen
        made.listen(BACKLOG)
    except OSError as error:
        if made:
            made.close()
        raise StartFailed(f"cannot listen on {address.host} port {address.port}: {error.strerror}") from None
    return made


def _bound(family: socket.AddressFamily, where: tuple[Any, ...], *, reuseport: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuseport:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # "::" beside "0.0.0.0" must not collide
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(where)
    except OSError:
        made.close()
        raise
    return made


def _address_of(listener: Listener) -> Address:
    if listener.socket.family == socket.AF_UNIX:
        return Address(str(listener.socket.getsockname()), 0, listener.name)
    host, port = listener.socket.getsockname()[:2]
    return Address(host, port, listener.name)
