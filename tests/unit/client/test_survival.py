"""The client when the network, the certificate or its own process fails."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.server import FakeServer
from veredus.client import Client, ClientClosed, Config, FileStore, Observer

ALICE, BOB = UUID(int=1), UUID(int=2)
QUICK = Config(backoff_first_seconds=0.01, backoff_most_seconds=0.02)


class Waits(Observer):
    """Why the client had to wait, each time."""

    def __init__(self) -> None:
        self.reasons: asyncio.Queue[str] = asyncio.Queue()

    def waiting(self, reason: str, seconds: float) -> None:
        self.reasons.put_nowait(reason)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


CHILD = """
import asyncio, sys
from pathlib import Path
from uuid import UUID
from veredus.client import Client, Credentials, FileStore

async def main(url, credentials, path):
    client = Client(url, Credentials.parse(credentials), store=FileStore(Path(path)))
    await client.connect()
    await asyncio.gather(*(client.submit(UUID(int=2), f"{number}") for number in range(20)))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_client_sends_what_had_no_answer_again_at_its_next_start(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "pending"
    credentials = f"{ALICE}.1:{server.credentials(ALICE).password}"
    server.levers.answers.clear()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, server.url, credentials, str(path))
    await server.until(lambda: server.lines and len(server.line(ALICE).queue) == 16)
    line = server.line(ALICE)
    child.kill()
    await child.wait()
    for send in line.queue[:5]:  # committed, though nobody was left to hear of it
        server.judge(line, send)
    await server.until(lambda: not server.lines)
    server.levers.answers.set()
    server.sends.clear()
    store = FileStore(path)
    async with Client(server.url, server.credentials(ALICE), store=store) as alice:
        last = await alice.send(BOB, "20")
    store.close()
    assert len(server.sends) == 21
    assert server.sends[-1] == last.client_id.bytes
    assert not FileStore(path).pending()
    async with Client(server.url, server.credentials(BOB)) as bob:
        await bob.drained()
        assert [message.text for message in bob.take()] == [f"{number}" for number in range(21)]


async def test_a_server_that_does_not_read_holds_the_client_back_and_loses_nothing(server: FakeServer) -> None:
    async with Client(server.url, server.credentials(ALICE), config=QUICK) as alice:
        transport = server.line(ALICE).transport
        assert transport is not None
        transport.underlying_transport.pause_reading()
        sends = [alice.submit(BOB, b"%d" % number + b"x" * 250_000) for number in range(64)]
        await asyncio.sleep(0)  # the flush
        transport.underlying_transport.resume_reading()
        await asyncio.gather(*sends)
    assert [stored.guid for stored in server.mailboxes[BOB.bytes, 1]] == [sent.result().guid.bytes for sent in sends]


async def test_nobody_there_is_told_and_tried_again() -> None:
    waits = Waits()
    alice = Client("ws://127.0.0.1:1/v1/websocket", FakeServer.credentials(ALICE), observer=waits, config=QUICK)
    connecting = asyncio.create_task(alice.connect())
    assert "cannot be reached" in await waits.reasons.get()
    assert "cannot be reached" in await waits.reasons.get()
    await alice.close()
    with pytest.raises(ClientClosed):
        await connecting


async def test_close_ends_an_attempt_to_connect() -> None:
    accepted = asyncio.Event()
    ended = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()
        ended.set()

    listening = await asyncio.start_server(mute, "127.0.0.1", 0)
    alice = Client(f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}", FakeServer.credentials(ALICE))
    connecting = asyncio.create_task(alice.connect())
    await accepted.wait()
    await alice.close()
    with pytest.raises(ClientClosed):
        await connecting
    await ended.wait()
    listening.close()
    await listening.wait_closed()


@pytest.mark.parametrize("url", ["http://localhost", "localhost:8000", "ws://", ""])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="form"):
        Client(url, FakeServer.credentials(ALICE))


async def test_a_certificate_that_is_not_trusted_is_told_and_a_trusted_one_works(tmp_path: Path) -> None:
    served, trust = contexts(tmp_path)
    async with FakeServer(served) as server:
        waits = Waits()
        stranger = Client(server.url, server.credentials(ALICE), observer=waits, config=QUICK)
        connecting = asyncio.create_task(stranger.connect())
        assert "certificate is not trusted" in await waits.reasons.get()
        await stranger.close()
        await asyncio.wait({connecting})
        assert isinstance(connecting.exception(), ClientClosed)
        async with Client(server.url, server.credentials(ALICE), trust=trust) as alice:
            assert (await alice.send(BOB, "text")).server_timestamp


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's certificate of its own making, and the trust in exactly that."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "pem"
    with open(os.open(pem, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(pem)
    return served, ssl.create_default_context(cafile=str(pem))
