"""Time on a connection (CON-19) and TLS: pings, idle and unfinished connections, closing handshakes that do not end."""

from __future__ import annotations

import datetime
import ssl
import struct
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.ws_peer import BINARY, CLOSE, CONTINUATION, PING, PONG, Frame, Peer, Served, frame, on_uvloop, serving, upgrade
from veredus.core.errors import Code

TIMEOUT = 4408


async def sent_and_read(served: Served, peer: Peer, data: bytes) -> None:
    """Send, and wait until the server has read it."""
    before = served.station.counters()["reads"]
    peer.send(data)
    await served.until(lambda: served.station.counters()["reads"] > before)


@pytest.mark.requirement("WS-3", "WS-9")
@on_uvloop
async def test_a_silent_peer_is_pinged_after_55_seconds_and_closed_20_later() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        served.pass_time(54.9)
        served.pass_time(0.1)
        assert await peer.frame() == Frame(True, PING, b"")
        served.pass_time(19.9)
        served.pass_time(0.1)
        assert await peer.closed_with() == TIMEOUT
        assert served.station.refused == {int(Code.TIMEOUT): 1}


@pytest.mark.requirement("WS-3")
@pytest.mark.parametrize("life", [frame(PONG), frame(BINARY, b"x")])
@on_uvloop
async def test_any_frame_answers_a_ping(life: bytes) -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        for _ in range(3):
            served.pass_time(55)
            assert (await peer.frame()).opcode == PING
            await sent_and_read(served, peer, life)
            if life == frame(BINARY, b"x"):
                assert (await peer.frame()).payload == b"x"
            served.pass_time(20)
        await peer.leave()


@on_uvloop
async def test_bytes_that_make_no_frame_are_no_sign_of_life() -> None:
    async with serving(limits={"partial_seconds": 1000.0}) as served:
        peer = await Peer.open(served.address)
        served.pass_time(55)
        assert (await peer.frame()).opcode == PING
        peer.send(frame(BINARY, bytes(100))[:50])
        await served.until(lambda: served.station.counters()["reads"] > 0)
        served.pass_time(20)
        assert await peer.closed_with() == TIMEOUT


@on_uvloop
async def test_a_peer_that_pings_itself_is_not_pinged_and_closed_60_seconds_after_its_last_frame() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        for _ in range(4):
            peer.send(frame(PING, b"mine"))
            assert await peer.frame() == Frame(True, PONG, b"mine")
            served.pass_time(59.9)
        served.pass_time(0.1)
        assert await peer.closed_with() == TIMEOUT


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(frame(BINARY, bytes(100))[:1], id="one byte"),
        pytest.param(frame(BINARY, bytes(70_000))[:7], id="half a header"),
        pytest.param(frame(BINARY, bytes(100))[:60], id="half a frame"),
        pytest.param(frame(BINARY, bytes(70_000))[:40_000], id="half a large frame"),
        pytest.param(frame(BINARY, b"a", fin=False), id="a fragment"),
        pytest.param(frame(BINARY, b"a", fin=False) + frame(CONTINUATION, b"bcd")[:7], id="a fragment and a half"),
    ],
)
@on_uvloop
async def test_a_message_begun_and_not_ended_is_given_up_after_30_seconds(begun: bytes) -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(begun)
        await served.until(lambda: served.station.counters()["reads"] > 0)
        served.pass_time(29.9)
        # A ping between the fragments, or more of the same, does not make it younger.
        if begun == frame(BINARY, b"a", fin=False):
            peer.send(frame(PING))
            assert (await peer.frame()).opcode == PONG
        served.pass_time(0.1)
        assert await peer.closed_with() == TIMEOUT
        assert served.station.budget.used == 0


@on_uvloop
async def test_the_next_message_has_its_own_30_seconds() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        for _ in range(3):
            peer.send(frame(BINARY, b"whole"), frame(BINARY, b"begun")[:3])
            assert (await peer.frame()).payload == b"whole"
            served.pass_time(20)
            peer.send(frame(BINARY, b"begun")[3:])
            assert (await peer.frame()).payload == b"begun"
        await peer.leave()


@on_uvloop
async def test_time_does_not_pass_for_a_connection_we_do_not_read() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address, "/v1/websocket")
        await served.until(lambda: len(served.gate.recorders) == 1)
        core = served.gate.recorders[0]
        core.wire.pause_reading()
        for _ in range(10):
            served.pass_time(50)
        assert served.station.open == 1
        core.wire.resume_reading()
        served.pass_time(55)
        assert (await peer.frame()).opcode == PING
        await peer.leave()


@on_uvloop
async def test_a_peer_that_does_not_answer_our_close_is_dropped() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        served.station.close_all(int(Code.REPLACED))
        assert (await peer.frame()).close_code == 4409
        peer.send(frame(BINARY, b"I am still talking"))
        served.pass_time(4.9)
        assert served.station.open == 1
        served.pass_time(0.1)
        await served.until(lambda: served.station.open == 0)
        peer.drop()


@on_uvloop
async def test_a_peer_that_answers_our_close_is_let_go_at_once() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        served.station.close_all(int(Code.REPLACED))
        assert (await peer.frame()).close_code == 4409
        peer.send(frame(BINARY, b"was on its way"), frame(CLOSE, struct.pack("!H", 4409)))
        await served.until(lambda: served.station.open == 0)
        assert await peer.rest() == b""
        peer.drop()


# ------------------------------------------------------------------------------------------------------------------------------ TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-made certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return certificate, private


def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    return context


@on_uvloop
async def test_everything_works_over_tls(certificate: tuple[Path, Path]) -> None:
    async with serving(certificate=certificate[0], key=certificate[1]) as served:
        peer = await Peer.connect(served.address, client_context())
        peer.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await peer.answer()).body == b"/health 0"
        peer.send(upgrade("/v1/echo"), frame(BINARY, b"first"))
        assert (await peer.answer()).status == 101
        assert (await peer.frame()).payload == b"first"
        large = bytes(range(256)) * 4096
        peer.send(frame(BINARY, large), frame(PING, b"?"), frame(BINARY, b"small"))
        got = [await peer.frame() for _ in range(3)]
        assert {(answer.opcode, answer.payload) for answer in got} == {(BINARY, large), (PONG, b"?"), (BINARY, b"small")}
        await peer.leave()
        peer = await Peer.open(served.address, tls=client_context())
        peer.send(frame(BINARY, b"good"), frame(3))
        assert (await peer.frame()).payload == b"good"
        assert (await peer.frame()).close_code == 1002
        peer.drop()


@on_uvloop
async def test_refusals_and_closing_work_over_tls(certificate: tuple[Path, Path]) -> None:
    async with serving(certificate=certificate[0], key=certificate[1]) as served:
        peer = await Peer.connect(served.address, client_context())
        peer.send(upgrade("/v1/nothing"))
        assert (await peer.answer()).status == 404
        assert await peer.rest() == b""
        peer = await Peer.open(served.address, "/v1/websocket", tls=client_context())
        await served.until(lambda: len(served.gate.recorders) == 1)
        served.gate.recorders[0].wire.close(Code.REPLACED)
        assert (await peer.frame()).close_code == 4409
        peer.send(frame(CLOSE, struct.pack("!H", 4409)))
        assert await peer.rest() == b""
        await served.until(lambda: served.station.open == 0)


@on_uvloop
async def test_tls_older_than_1_3_is_refused(certificate: tuple[Path, Path]) -> None:
    async with serving(certificate=certificate[0], key=certificate[1]) as served:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await Peer.connect(served.address, client_context(ssl.TLSVersion.TLSv1_2))
