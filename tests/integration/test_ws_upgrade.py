"""The handshake and the one port: what becomes a WebSocket, what is served as HTTP, and what is refused how."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from tests.integration.ws_peer import ACCOUNT, BINARY, Answer, OpenGate, Peer, frame, on_uvloop, serving, upgrade
from veredus.core.errors import CATALOGUE, Code, StoreUnavailable
from veredus.core.identity.authentication import Authenticator
from veredus.core.model import Principal
from veredus.server.ws.gate import AuthenticatingGate, Refusal

PATH = "/v1/websocket"


async def asked(address: tuple[str, int], request: bytes) -> Answer:
    """The answer to a request after which the server closes."""
    peer = await Peer.connect(address)
    peer.send(request)
    answer = await peer.answer()
    assert await peer.rest() == b""
    peer.drop()
    return answer


@pytest.mark.requirement("WS-1")
@on_uvloop
async def test_the_subprotocol_is_negotiated_among_others() -> None:
    async with serving() as served:
        peer = await Peer.connect(served.address)
        peer.send(upgrade(PATH, replace={"Sec-WebSocket-Protocol": "chat, signalservice"}))
        answer = await peer.answer()
        assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "signalservice")
        peer.drop()


@on_uvloop
async def test_the_echo_needs_no_subprotocol_and_names_none() -> None:
    async with serving() as served:
        peer = await Peer.connect(served.address)
        peer.send(upgrade("/v1/echo?agent=x"))
        answer = await peer.answer()
        assert answer.status == 101
        assert "sec-websocket-protocol" not in answer.headers
        peer.drop()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(upgrade(PATH, replace={"Connection": "keep-alive, Upgrade"}), id="as Firefox writes it"),
        pytest.param(upgrade(PATH, replace={"Connection": None}, more="Connection: keep-alive\r\nConnection: uPGRADE\r\n"), id="two lines"),
        pytest.param(upgrade(PATH, replace={"Upgrade": "WebSocket"}), id="another case"),
        pytest.param(upgrade(PATH, replace={"Content-Length": "0"}), id="an empty body"),
        pytest.param(
            upgrade(
                PATH,
                replace={"Sec-WebSocket-Protocol": None},
                more="sec-websocket-protocol: a\r\nsec-websocket-protocol: signalservice\r\n",
            ),
            id="offers in two lines",
        ),
        pytest.param(
            upgrade(PATH, replace={"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}), id="an extension we decline"
        ),
    ],
)
@pytest.mark.requirement("WS-1")
@on_uvloop
async def test_well_formed_upgrades_are_taken(head: bytes) -> None:
    async with serving() as served:
        peer = await Peer.connect(served.address)
        peer.send(head)
        answer = await peer.answer()
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers
        await served.until(lambda: len(served.gate.recorders) == 1)
        peer.drop()


@pytest.mark.parametrize(
    ("head", "status", "name"),
    [
        pytest.param(upgrade(PATH, replace={"Upgrade": None, "Connection": None}), 426, "PROTOCOL_VIOLATION", id="a plain GET"),
        pytest.param(upgrade(PATH, replace={"Upgrade": "h2c"}), 426, "PROTOCOL_VIOLATION", id="another upgrade"),
        pytest.param(upgrade(PATH, replace={"Connection": "close"}), 426, "PROTOCOL_VIOLATION", id="not in the Connection header"),
        pytest.param(upgrade(PATH, replace={"Sec-WebSocket-Version": "8"}), 426, "PROTOCOL_VIOLATION", id="an old version"),
        pytest.param(upgrade(PATH, replace={"Sec-WebSocket-Version": None}), 426, "PROTOCOL_VIOLATION", id="no version"),
        pytest.param(upgrade(PATH, replace={"Sec-WebSocket-Key": None}), 400, "PROTOCOL_VIOLATION", id="no key"),
        pytest.param(upgrade(PATH, replace={"Sec-WebSocket-Key": "c2hvcnQ="}), 400, "PROTOCOL_VIOLATION", id="a short key"),
        pytest.param(
            upgrade(PATH, replace={"Sec-WebSocket-Key": "not base64 at all!!!!!!!"}), 400, "PROTOCOL_VIOLATION", id="a key not in base64"
        ),
        pytest.param(upgrade(PATH, more="Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"), 400, "PROTOCOL_VIOLATION", id="two keys"),
        pytest.param(upgrade(PATH, replace={"Sec-WebSocket-Protocol": None}), 400, "PROTOCOL_VIOLATION", id="no subprotocol"),
        pytest.param(upgrade(PATH, replace={"Sec-WebSocket-Protocol": "chat"}), 400, "PROTOCOL_VIOLATION", id="another subprotocol"),
        pytest.param(upgrade(PATH, replace={"Host": None}), 400, "PROTOCOL_VIOLATION", id="no host"),
        pytest.param(upgrade(PATH, version="1.0"), 400, "PROTOCOL_VIOLATION", id="HTTP/1.0"),
        pytest.param(upgrade(PATH, method="POST"), 405, "METHOD_NOT_ALLOWED", id="POST"),
        pytest.param(upgrade(PATH, replace={"Content-Length": "5"}) + b"hello", 400, "PROTOCOL_VIOLATION", id="a body"),
        pytest.param(
            upgrade(PATH, replace={"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n", 400, "PROTOCOL_VIOLATION", id="a chunked body"
        ),
        pytest.param(upgrade("/v1/nothing"), 404, "NOT_FOUND", id="another path"),
        pytest.param(upgrade(PATH, replace={"Origin": "https://evil.example"}), 403, "FORBIDDEN", id="an unknown origin"),
        pytest.param(upgrade(PATH, replace={"Origin": "null"}), 403, "FORBIDDEN", id="no origin to speak of"),
        pytest.param(
            upgrade(PATH, more="Origin: https://chat.example\r\nOrigin: https://evil.example\r\n"), 403, "FORBIDDEN", id="two origins"
        ),
        pytest.param(b"\x16\x03\x01\x02\x00" + bytes(60), 400, "INVALID_REQUEST", id="TLS on the plain port"),
        pytest.param(b"GET /\x00 HTTP/1.1\r\n\r\n", 400, "INVALID_REQUEST", id="a NUL"),
    ],
)
@on_uvloop
async def test_a_malformed_upgrade_is_refused_with_the_catalogue(head: bytes, status: int, name: str) -> None:
    async with serving(origins=("https://chat.example",)) as served:
        answer = await asked(served.address, head)
        assert (answer.status, answer.error) == (status, name)
        assert answer.headers["content-type"] == "application/json"
        assert served.gate.asked == []
        assert served.station.open == 0
        if answer.status == 426 and "old version" in str(head):
            assert answer.headers["sec-websocket-version"] == "13"


@on_uvloop
async def test_a_wrong_version_is_told_the_right_one() -> None:
    async with serving() as served:
        answer = await asked(served.address, upgrade(PATH, replace={"Sec-WebSocket-Version": "8"}))
        assert (answer.status, answer.headers["sec-websocket-version"]) == (426, "13")


@on_uvloop
async def test_an_allowed_origin_may_connect() -> None:
    async with serving(origins=("https://chat.example",)) as served:
        peer = await Peer.open(served.address, PATH, replace={"Origin": "https://Chat.Example"})
        peer.drop()


@on_uvloop
async def test_outside_development_there_is_no_echo() -> None:
    async with serving(echo=False) as served:
        assert (await asked(served.address, upgrade("/v1/echo"))).status == 404


@on_uvloop
async def test_a_refusal_of_the_gate_is_written_as_it_says() -> None:
    gate = OpenGate()
    gate.refusal = Refusal(Code.UNAVAILABLE, retry_after_ms=1500)
    async with serving(gate=gate) as served:
        answer = await asked(served.address, upgrade(PATH))
        assert (answer.status, answer.error, answer.headers["retry-after"]) == (503, "UNAVAILABLE", "2")
        assert served.station.refused == {int(Code.UNAVAILABLE): 1}


class Passwords:
    """Credentials that know one device."""

    def __init__(self) -> None:
        self.down = False

    async def basic(self, username: str, password: str) -> Principal | None:
        if self.down:
            raise StoreUnavailable
        return Principal(ACCOUNT, 1, 1, 1) if (username, password) == ("someone", "secret") else None


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode("latin-1")).decode()


@on_uvloop
async def test_whatever_is_wrong_with_credentials_the_answer_is_the_same() -> None:
    passwords = Passwords()
    wrong = [
        None, "", "Basic", "Basic ", "Basic !!!", basic("someone"), basic("someone:wrong"), basic("nobody:secret"), basic("\xff\xfe:x"),
        basic(":"), "Bearer abc", basic("someone:secret") + "x", basic("some\x00one:secret"),
    ]  # fmt: skip
    async with serving(gate=AuthenticatingGate(Authenticator(passwords), OpenGate().open)) as served:
        answers = [await asked(served.address, upgrade(PATH, replace={"Authorization": value})) for value in wrong]
        answers.append(await asked(served.address, upgrade(PATH, more=f"Authorization: {basic('a:b')}\r\n")))
        assert {(answer.status, answer.body, answer.headers["www-authenticate"]) for answer in answers} == {
            (401, answers[0].body, 'Basic realm="veredus", charset="UTF-8"')
        }
        assert answers[0].error == "UNAUTHENTICATED"
        passwords.down = True
        answer = await asked(served.address, upgrade(PATH))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        passwords.down = False
        peer = await Peer.open(served.address, PATH)
        peer.drop()


@on_uvloop
async def test_what_comes_while_the_gate_decides_is_kept_and_reading_stops() -> None:
    gate = OpenGate()
    gate.held = asyncio.Event()
    async with serving(gate=gate) as served:
        peer = await Peer.connect(served.address)
        ack = b"\x1a\x02\x18\x01"  # Ack{up_to: 1}
        peer.send(upgrade(PATH), frame(BINARY, ack))
        await gate.arrived.wait()
        peer.send(frame(BINARY, ack))
        gate.held.set()
        assert (await peer.answer()).status == 101
        await served.until(lambda: len(gate.recorders) == 1)
        recorder = gate.recorders[0]
        await recorder.until(lambda: sum(inbound.ack_up_to for inbound in recorder.inbound) == 2)
        peer.drop()


@on_uvloop
async def test_a_gate_that_hangs_or_breaks_is_answered_for() -> None:
    class Broken(OpenGate):
        async def admit(self, request: object) -> Refusal:
            raise RuntimeError("secret")

    gate = OpenGate()
    gate.held = asyncio.Event()
    async with serving(gate=gate, limits={"upgrade_seconds": 0.05}) as served:
        assert (await asked(served.address, upgrade(PATH))).status == 503
    async with serving(gate=Broken()) as served:
        answer = await asked(served.address, upgrade(PATH))
        assert (answer.status, answer.error) == (500, "INTERNAL")
        assert b"secret" not in answer.body


@on_uvloop
async def test_a_core_that_cannot_open_a_session_closes_with_1011() -> None:
    class Broken(OpenGate):
        def open(self, principal: Principal, wire: object) -> None:
            raise RuntimeError("secret")

    async with serving(gate=Broken()) as served:
        peer = await Peer.open(served.address, PATH, first=frame(BINARY, b"\x1a\x02\x18\x01"))
        assert await peer.closed_with() == 1011


@on_uvloop
async def test_a_fault_of_the_application_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        raise ValueError("top secret")

    async with serving(app=app) as served:
        answer = await asked(served.address, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.status == 500
        assert "ValueError in the HTTP application" in caplog.text
        assert "secret" not in caplog.text


@on_uvloop
async def test_half_a_tls_configuration_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="certificate"):
        async with serving(certificate=tmp_path / "c.pem"):
            pass


@on_uvloop
async def test_a_client_that_goes_while_the_gate_decides_leaves_nothing() -> None:
    gate = OpenGate()
    gate.held = asyncio.Event()
    async with serving(gate=gate) as served:
        peer = await Peer.connect(served.address)
        peer.send(upgrade(PATH))
        await gate.arrived.wait()
        peer.drop()
        gate.held.set()
        await served.until(lambda: not gate.recorders or gate.recorders[0].lost == 1)
        await served.until(lambda: served.station.open == 0)


@on_uvloop
async def test_http_and_websockets_share_the_port_and_a_connection() -> None:
    async with serving() as served:
        peer = await Peer.connect(served.address)
        for _ in range(2):
            peer.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await peer.answer()).body == b"/health 0"
        peer.send(b"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000))
        assert (await peer.answer()).body == b"/big 300000"
        peer.send(upgrade("/v1/echo"), frame(BINARY, b"same connection"))
        assert (await peer.answer()).status == 101
        assert (await peer.frame()).payload == b"same connection"
        await peer.leave()


@on_uvloop
async def test_an_upgrade_to_something_else_is_answered_as_a_plain_request() -> None:
    async with serving() as served:
        answer = await asked(
            served.address,
            b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        )
        assert answer.body == b"/health 0"


@pytest.mark.parametrize("start", [b"", b"GET /v1/websocket HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: a", upgrade(PATH)[:-2]])
@on_uvloop
async def test_a_slow_head_is_given_up_with_408(start: bytes) -> None:
    async with serving(limits={"upgrade_seconds": 0.05}) as served:
        answer = await asked(served.address, start)
        assert (answer.status, answer.error) == (408, "TIMEOUT")


@on_uvloop
async def test_a_slow_head_on_a_used_connection_and_a_slow_body_are_given_up_too() -> None:
    async with serving(limits={"upgrade_seconds": 0.05, "partial_seconds": 0.05}) as served:
        peer = await Peer.connect(served.address)
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await peer.answer()).status == 200
        peer.send(b"GET / HTTP/1.1\r\nHo")
        assert (await peer.answer()).status == 408
        assert await peer.rest() == b""
        answer = await asked(served.address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        assert answer.status == 408
        peer.drop()


@pytest.mark.parametrize("chunk", [100, 1 << 20])
@on_uvloop
async def test_a_huge_head_is_refused_with_431(chunk: int) -> None:
    async with serving() as served:
        peer = await Peer.connect(served.address)
        head = upgrade(PATH)[:-2] + b"X-Padding: " + b"a" * 40_000 + b"\r\n\r\n"
        for at in range(0, len(head), chunk):
            peer.send(head[at : at + chunk])
            await peer.writer.drain()
        answer = await peer.answer()
        assert (answer.status, answer.error) == (431, "MESSAGE_TOO_BIG")
        peer.drop()
        assert served.gate.asked == []


@on_uvloop
async def test_a_head_that_never_ends_is_refused_before_it_costs_memory() -> None:
    async with serving() as served:
        peer = await Peer.connect(served.address)
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 20_000)
        assert (await peer.answer()).status == 431
        peer.drop()


@on_uvloop
async def test_every_refusal_has_the_form_of_the_catalogue() -> None:
    async with serving() as served:
        answer = await asked(served.address, upgrade("/v1/nothing"))
        entry = CATALOGUE[Code.NOT_FOUND]
        assert answer.body == b'{"code":%d,"name":"NOT_FOUND","reason":"%s"}' % (Code.NOT_FOUND, entry.reason.encode())
