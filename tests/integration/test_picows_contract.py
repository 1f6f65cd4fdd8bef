"""What we rely on in picows beyond its documentation. When one of these fails, read `ext/intake` and `ext/channel` again."""

from __future__ import annotations

import asyncio
import os
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import picows
import pytest
from picows import WSAutoPingStrategy, WSCloseCode, WSListener, WSMsgType, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from tests.integration.ws_peer import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame, on_uvloop

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HEAD = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
OFFERED, MOST = 1792, 1535


class Quiet:
    """The least of a logger picows asks for."""

    def isEnabledFor(self, level: int) -> bool:
        return False

    def info(self, *args: object) -> None:
        pass

    debug = error = warning = exception = log = info


class Transport:
    """A transport that keeps what is written, on a socket nobody reads."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX)
        self.written = b""
        self.pending = 1  # not 0: picows then writes through here, not to the descriptor
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return FakeSocket(self.ours) if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return self.pending

    def write(self, data: bytes) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def release(self) -> None:
        self.ours.close()
        self.theirs.close()


class FakeSocket:
    """TCP options on a socket that has none."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real

    def fileno(self) -> int:
        return self._real.fileno()

    def setsockopt(self, *args: object) -> None:
        pass

    def getsockopt(self, *args: object) -> int:
        return 0


class Listener(WSListener):
    def __init__(self) -> None:
        self.got: list[tuple[int, bool, bytes, bool]] = []
        self.views: list[memoryview] = []
        self.raises: Exception | None = None

    def on_ws_frame(self, transport: Any, got: Any) -> None:
        self.got.append((int(got.msg_type), bool(got.fin), got.get_payload_as_bytes(), bool(got.last_in_buffer)))
        if self.raises is not None:
            raise self.raises


def parser(made: WSUpgradeResponseWithListener) -> Any:
    """A server-side protocol, built as `ext/channel` builds it."""
    when = WSAutoPingStrategy.PING_WHEN_IDLE
    return WSProtocol(None, None, False, lambda request: made, Quiet(), True, None, False, 0, 0, when, False, 2048, None, 2048)


class Fixture:
    """A server-side parser after its handshake, fed as `ext/intake` does."""

    def __init__(self) -> None:
        self.listener = Listener()
        self.transport = Transport()
        made = WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response([("Sec-WebSocket-Protocol", "x")]), self.listener)
        self.protocol = parser(made)
        self.protocol.connection_made(self.transport)
        self.feed(HEAD)
        self.answer, self.transport.written = self.transport.written, b""

    def feed(self, data: bytes) -> None:
        self.protocol.get_buffer(-1)[: len(data)] = data
        self.protocol.buffer_updated(len(data))

    def release(self) -> None:
        self.protocol.connection_lost(None)
        self.transport.release()


def on_picows(test: Any) -> Any:
    async def run() -> None:
        fixture = Fixture()
        try:
            test(fixture)
            await asyncio.sleep(0)
        finally:
            fixture.release()

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return on_uvloop(run)


def test_the_version_is_the_one_these_facts_were_read_in() -> None:
    assert version("picows") == "2.3.1"


@on_picows
def test_the_handshake_is_answered_with_the_key_and_our_headers(picows: Fixture) -> None:
    assert picows.answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in picows.answer
    assert b"Sec-WebSocket-Protocol: x" in picows.answer


@on_picows
def test_the_read_buffer_neither_grows_nor_moves_while_it_is_given_whole_frames_of_at_most_1535_bytes(picows: Fixture) -> None:
    assert len(picows.protocol.get_buffer(-1)) == OFFERED
    for size in [0, 1, 125, 126, 1000, 1520, MOST - 8]:
        for _ in range(3):
            assert len(frame(BINARY, bytes(size))) <= MOST
            picows.feed(frame(BINARY, bytes(size)))
            assert len(picows.protocol.get_buffer(-1)) == OFFERED
    assert [len(payload) for _, _, payload, _ in picows.listener.got[::3]] == [0, 1, 125, 126, 1000, 1520, MOST - 8]


@on_picows
def test_one_byte_more_and_the_buffer_grows_for_good(picows: Fixture) -> None:
    picows.feed(frame(BINARY, bytes(MOST - 8 + 1)))
    assert len(picows.protocol.get_buffer(-1)) > OFFERED


@on_picows
def test_bytes_behind_those_it_was_told_of_are_left_alone(picows: Fixture) -> None:
    whole, half = frame(BINARY, b"whole"), frame(BINARY, b"half of this")[:9]
    buffer = picows.protocol.get_buffer(-1)
    buffer[: len(whole) + len(half)] = whole + half
    picows.protocol.buffer_updated(len(whole))
    assert bytes(buffer[len(whole) : len(whole) + len(half)]) == half


@on_picows
def test_fragments_come_one_by_one_and_continuations_keep_no_kind(picows: Fixture) -> None:
    picows.feed(frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"\xff") + frame(CONTINUATION, b"of nothing"))
    assert [(kind, fin) for kind, fin, _, _ in picows.listener.got] == [(TEXT, False), (CONTINUATION, True), (CONTINUATION, True)]


@on_picows
def test_only_the_last_frame_of_a_read_says_so(picows: Fixture) -> None:
    picows.feed(frame(BINARY, b"1") + frame(BINARY, b"2") + frame(BINARY, b"3"))
    assert [last for _, _, _, last in picows.listener.got] == [False, False, True]


@on_picows
def test_reserved_bits_and_reserved_close_codes_pass(picows: Fixture) -> None:
    """Which is why `ext/framing` looks first."""
    picows.feed(frame(BINARY, b"x", rsv=7))
    picows.feed(frame(CLOSE, b"\x03\xee"))  # 1006
    assert len(picows.listener.got) == 2
    assert picows.transport.written == b""


@on_picows
def test_a_malformed_frame_is_answered_before_the_good_one_ahead_of_it_is_delivered(picows: Fixture) -> None:
    """Which is why it never sees one."""
    answered: list[bytes] = []
    picows.listener.got = _Watch(picows, answered)
    picows.feed(frame(BINARY, b"good") + frame(3))
    assert answered == [b"\x88\x03\xea"]


class _Watch(list[Any]):
    def __init__(self, picows: Fixture, answered: list[bytes]) -> None:
        super().__init__()
        self._picows, self._answered = picows, answered

    def append(self, item: Any) -> None:
        written = self._picows.transport.written
        self._answered.append(written[:1] + written[2:4])  # without the length


@on_picows
def test_a_close_without_a_code_would_send_status_0(picows: Fixture) -> None:
    picows.protocol.transport.send_close()
    assert picows.transport.written == b"\x88\x02\x00\x00"


@on_picows
def test_close_codes_of_applications_are_sent_and_what_follows_a_close_is_dropped_in_silence(picows: Fixture) -> None:
    picows.protocol.transport.send_close(4409, b"why")
    assert picows.protocol.transport.is_close_frame_sent
    picows.protocol.transport.send(WSMsgType.BINARY, b"gone")
    assert picows.transport.written == b"\x88\x05\x11\x39why"


@on_picows
def test_pings_are_ours_to_answer_when_auto_pong_is_off(picows: Fixture) -> None:
    picows.feed(frame(PING, b"?"))
    assert picows.listener.got[0][:3] == (PING, True, b"?")
    assert picows.transport.written == b""


@on_picows
def test_an_exception_of_the_listener_stays_inside_and_closes_with_1011(picows: Fixture) -> None:
    picows.listener.raises = ValueError("x")
    picows.feed(frame(BINARY, b"x"))
    assert picows.transport.written[:4] == b"\x88\x02\x03\xf3"


@on_picows
def test_a_lost_connection_is_told_once_and_needs_no_running_task(picows: Fixture) -> None:
    assert [task for task in asyncio.all_tasks() if "ping" in repr(task)] == []


@on_uvloop
async def test_a_connection_header_that_is_a_list_is_refused() -> None:
    """Which is why only the key of a request ever reaches it."""
    transport = Transport()
    made = WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(), Listener())
    protocol = parser(made)
    protocol.connection_made(transport)
    head = HEAD.replace(b"Connection: Upgrade", b"Connection: keep-alive, Upgrade")
    protocol.get_buffer(-1)[: len(head)] = head
    protocol.buffer_updated(len(head))
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    protocol.connection_lost(None)
    transport.release()


@pytest.mark.parametrize(
    "promise",
    [
        "cdef inline NoResult _fast_write(self, char* ptr, Py_ssize_t sz)",
        "readonly object request",
        "readonly object response",
        "MemoryBuffer _write_buffer",
        "char* payload_ptr",
        "readonly Py_ssize_t payload_size",
    ],
)
def test_the_private_parts_we_use_are_in_its_header(promise: str) -> None:
    assert promise in (Path(picows.__file__).parent / "picows.pxd").read_text()


def test_close_codes_are_plain_numbers() -> None:
    assert WSCloseCode.PROTOCOL_ERROR.value == 1002
    assert os.path.exists(Path(picows.__file__).parent / "py.typed")
