"""Listening sockets: one per worker on one address, never somebody else's, or those a service manager gave."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from veredus.server.failure import StartFailed
from veredus.server.process import sockets
from veredus.server.process.sockets import Address, Listeners, given_listeners, open_listeners


@pytest.fixture
def three() -> Iterator[Listeners]:
    listeners = open_listeners([Address("127.0.0.1", 0)], 3, 0.0)
    yield listeners
    listeners.close()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Descriptors to hand over, instead of those from 3 on, which the test run itself uses."""
    fds: list[int] = []
    monkeypatch.setattr(sockets, "_given_range", lambda count: fds[:count])
    return fds


def environ(count: int, names: str = "", pid: int | None = None) -> dict[str, str]:
    return {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "OTHER": "stays"}


def test_every_slot_listens_on_the_same_address_with_a_socket_of_its_own(three: Listeners) -> None:
    every = [listener.socket for slot in range(3) for listener in three.of(slot)]
    assert len({each.fileno() for each in every}) == 3
    assert {each.getsockname() for each in every} == {(three.addresses[0].host, three.addresses[0].port)}
    for each in every:
        assert each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert not each.getblocking()
        assert not each.get_inheritable()


def test_connections_inherit_a_small_receive_buffer(three: Listeners) -> None:
    """The kernel doubles what is asked for."""
    listening = three.of(0)[0].socket
    assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * sockets.RECEIVE_BUFFER


def test_a_worker_keeps_its_own_alone(three: Listeners) -> None:
    three.keep_only(1)
    assert [three.of(slot)[0].socket.fileno() == -1 for slot in range(3)] == [True, False, True]


def test_an_address_in_use_is_refused_even_when_its_owner_would_share_it(three: Listeners) -> None:
    with pytest.raises(StartFailed, match=rf"127\.0\.0\.1 port {three.addresses[0].port}: another process does"):
        open_listeners([Address("127.0.0.1", three.addresses[0].port)], 1, 0.0)


def test_an_address_that_becomes_free_is_taken(three: Listeners, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of a killed supervisor let go of it a moment later."""
    monkeypatch.setattr("time.sleep", lambda _: three.close())
    open_listeners([Address("127.0.0.1", three.addresses[0].port)], 1, 60.0).close()


def test_a_failure_closes_what_was_opened(three: Listeners) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StartFailed):
        open_listeners([Address("127.0.0.1", 0), Address("127.0.0.1", three.addresses[0].port)], 2, 0.0)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (Address("no such host.invalid", 0), "cannot listen on no such host.invalid"),
        (Address("192.0.2.1", 0), "Cannot assign requested address"),
    ],
)
def test_an_address_that_is_not_ours_is_one_line(address: Address, words: str) -> None:
    with pytest.raises(StartFailed, match=words):
        open_listeners([address], 1, 0.0)


def test_both_families_listen_on_one_port() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    first = open_listeners([Address("0.0.0.0", 0)], 2, 0.0)
    second = open_listeners([Address("::", first.addresses[0].port)], 2, 0.0)
    assert first.addresses[0].port == second.addresses[0].port
    first.close()
    second.close()


def test_given_sockets_are_shared_by_all_slots_under_their_names(given: list[int]) -> None:
    handed = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in handed]
    given.extend(each.detach() for each in handed)
    variables = environ(2, "http:")
    listeners = given_listeners(variables, 3)
    assert listeners is not None
    assert listeners.addresses == (Address("127.0.0.1", ports[0], "http"), Address("127.0.0.1", ports[1], "unknown"))
    assert listeners.of(0) == listeners.of(2)
    listeners.keep_only(1)
    assert all(listener.socket.fileno() >= 0 and not listener.socket.getblocking() for listener in listeners.of(1))
    assert variables == {"OTHER": "stays"}, "a child must not take them for its own"
    listeners.close()


def test_sockets_given_to_another_process_are_not_ours(given: list[int]) -> None:
    variables = environ(1, pid=1)
    assert given_listeners(variables, 1) is None
    assert variables == {"OTHER": "stays"}


def test_nothing_given_is_nothing() -> None:
    assert given_listeners({}, 1) is None
    assert given_listeners(environ(0), 1) is None


def test_a_count_that_is_none_is_refused() -> None:
    with pytest.raises(StartFailed, match="LISTEN_FDS: not a number"):
        given_listeners(environ(1) | {"LISTEN_FDS": "many"}, 1)


def test_a_descriptor_that_does_not_listen_is_refused(given: list[int]) -> None:
    with socket.socket() as idle:
        given.append(os.dup(idle.fileno()))
        with pytest.raises(StartFailed, match="not a listening stream socket"):
            given_listeners(environ(1), 1)
    reader, writer = os.pipe()
    given[:] = [reader]
    with pytest.raises(StartFailed, match="given by the service manager"):
        given_listeners(environ(1), 1)
    os.close(reader)
    os.close(writer)
