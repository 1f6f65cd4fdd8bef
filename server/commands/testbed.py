"""A server of its own for a load test: stores in a temporary folder, a real server, accounts; all gone afterwards.

Owns that lifetime. Measures nothing, and never touches a database that was there before.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import redis.asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from veredus.bench.load.leading import Target
from veredus.bench.load.observe import Watched
from veredus.bench.load.plan import Account
from veredus.core.identity.credentials import DeviceSecrets
from veredus.server.config import Config, load
from veredus.server.failure import StartFailed
from veredus.server.process.embedded import Embedded
from veredus.server.store.migrations import migrate

START_SECONDS = 30.0
STOP_SECONDS = 30.0

# Accounts are made in one statement: a statement each would take longer than the test.
CREATE = """
WITH given AS (SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) t(uuid, salt, hash)),
 a AS (INSERT INTO account (uuid) SELECT uuid FROM given RETURNING id, uuid)
INSERT INTO device (account, number, registration_id, secret_salt, secret_hash)
SELECT a.id, 1, 1, given.salt, given.hash FROM a JOIN given USING (uuid)
"""


@asynccontextmanager
async def testbed(accounts: int, tls: bool, workers: int, limits: dict[str, float]) -> AsyncIterator[Target]:
    """A server on loopback with so many accounts. Raises `StartFailed`."""
    folder = _temporary_folder()
    try:
        with Embedded(folder / "data") as stores:
            config = _configure(folder, stores, tls, limits)
            await migrate(stores.dsn)
            made = await _accounts(stores.dsn, load(config, {}), accounts)
            process = await _serve(config, workers)
            assert process.stderr is not None
            log = asyncio.create_task(_pass_on(process.stderr))
            try:
                target = await _target(load(config, {}), stores, process.pid, made)
                yield msgspec.structs.replace(target, watched=_with(target.watched, workers=workers))
            finally:
                await _stop(process)
                await log
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="veredus-load-"))
    folder.chmod(0o711)  # started as root, the stores run as another user, who has to come through
    return folder


def _configure(folder: Path, stores: Embedded, tls: bool, limits: dict[str, float]) -> Path:
    secret = folder / "secret"
    secret.write_bytes(os.urandom(48).hex().encode())
    secret.chmod(0o600)
    given: dict[str, object] = {
        "database_url": stores.dsn,
        "redis_url": stores.redis_url,
        "secret_file": "secret",
        "listen": {"address": "127.0.0.1", "port": _free_port()},
        "limits": {"messages_per_minute": 0} | limits,  # a few accounts send as fast as they can
    }
    if tls:
        _certify(folder)
        given["tls"] = {"certificate": "certificate.pem", "key": "key.pem"}
    file = folder / "veredus.yaml"
    file.write_bytes(msgspec.yaml.encode(given))
    return file


def _certify(folder: Path) -> None:
    """A certificate for this test, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(pem)


async def _accounts(dsn: str, config: Config, number: int) -> list[Account]:
    secrets = DeviceSecrets(config.pepper())
    uuids = [uuid4() for _ in range(number)]
    issued = [secrets.issue() for _ in range(number)]
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(CREATE, uuids, [each.salt for each in issued], [each.hash for each in issued])
        await connection.execute("ANALYZE account, device")
    finally:
        await connection.close()
    return [Account(str(uuid), each.plain) for uuid, each in zip(uuids, issued, strict=True)]


async def _serve(config: Path, workers: int) -> asyncio.subprocess.Process:
    """The server, as an operator starts it, once it serves."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "veredus.server", "serve", "--config", str(config), "--workers", str(workers), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            while b'"serving"' not in (line := await process.stderr.readline()):
                if not line:
                    raise StartFailed("the server ended at its start")
    except BaseException:
        await _stop(process)
        raise
    return process


async def _pass_on(lines: asyncio.StreamReader) -> None:
    """What the server complains of goes where ours goes. All is read: a full pipe would stop the server."""
    while line := await lines.readline():
        if b'"level": "info"' not in line:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _target(config: Config, stores: Embedded, server: int, accounts: list[Account]) -> Target:
    scheme, host = ("wss", "localhost") if config.tls else ("ws", "127.0.0.1")
    async with redis.asyncio.Redis.from_url(stores.redis_url) as client:
        information = await client.info("server")
    settings = {
        "redis": {"version": information["redis_version"]},
        "limits": msgspec.structs.asdict(config.limits),
        "tls": bool(config.tls),
    }
    pids = {"workers": (server,), "postgres": (stores.postgres.pid,), "redis": (stores.redis.pid,)}
    return Target(
        url=f"{scheme}://{host}:{config.listen.port}/v1/websocket",
        accounts=accounts,
        ca=str(config.tls.certificate) if config.tls else None,
        watched=Watched(pids=pids, dsn=stores.dsn, settings=settings),
    )


def _with(watched: Watched, **settings: object) -> Watched:
    return msgspec.structs.replace(watched, settings={**watched.settings, **settings})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
