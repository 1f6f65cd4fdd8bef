"""`veredus serve`, `migrate` and `account create` as an operator runs them."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.commands import ENVIRONMENT, run, veredus
from tests.embedded_owner import wait_gone
from tests.stores import Stores
from veredus.client import Client, Credentials
from veredus.server.commands.account import Issued
from veredus.server.process.embedded import Embedded


def write_config(folder: Path, dsn: str, redis_url: str, more: str = "listen: {port: 0}\n") -> str:
    (folder / "secret").write_text("s" * 48)
    file = folder / "veredus.yaml"
    file.write_text(f"database_url: {dsn!r}\nredis_url: {redis_url!r}\nsecret_file: secret\n{more}")
    return str(file)


@pytest.mark.requirement("INF-1")
async def test_it_serves_a_made_account_and_stops_when_told(tmp_path: Path, database: str, redis_url: str) -> None:
    config = write_config(tmp_path, database, redis_url)
    code, out, err = await run("account", "create", "--config", config)
    assert (code, err) == (0, "")
    credentials = Credentials.parse(out.strip())
    async with veredus("serve", "--config", config) as program:
        address = await serving(program.process.stderr)
        async with httpx.AsyncClient(base_url=f"http://{address}") as web:
            assert (await web.get("/health")).status_code == 200
            path = f"/v1/messages/{credentials.account}"
            assert (await web.get("/v1/messages")).status_code == 401
            assert (await web.get("/v1/messages", headers={"authorization": credentials.authorization()})).status_code == 200, path
        client = Client(f"ws://{address}/v1/websocket", credentials)
        await client.connect()
        await client.close()
        processes = [child.pid for child in psutil.Process(program.process.pid).children()]
        assert len(processes) == 1
        program.signal(signal.SIGTERM)
        code, _, err = await program.ended()
        assert code == 0
        assert credentials.password not in err
    wait_gone(processes)


async def serving(errors: object) -> str:
    """The address in the line that says so."""
    while line := await errors.readline():  # type: ignore[attr-defined]
        told = json.loads(line)
        if told["event"] == "serving":
            return str(told["addresses"][0])
    raise AssertionError("it ended before it served")


async def test_without_a_schema_it_says_what_to_run_and_afterwards_starts(tmp_path: Path, own_stores: Embedded) -> None:
    config = write_config(tmp_path, own_stores.dsn, own_stores.redis_url)
    code, _, err = await run("serve", "--config", config)
    assert code != 0
    assert "run `veredus migrate` first" in err
    assert "Traceback" not in err
    code, _, err = await run("account", "create", "--config", config)
    assert code == 1
    assert err.startswith("veredus: ")
    for _ in range(2):
        assert (await run("migrate", "--config", config))[0] == 0
    async with veredus("serve", "--config", config) as program:
        await serving(program.process.stderr)


@pytest.mark.requirement("INF-2")
async def test_a_configuration_that_is_wrong_stops_every_command_with_one_line(tmp_path: Path, stores: Stores) -> None:
    config = write_config(tmp_path, stores.embedded.dsn, stores.embedded.redis_url, "listn: {port: 0}\n")
    for command in (["serve"], ["migrate"], ["account", "create"]):
        code, out, err = await run(*command, "--config", config)
        assert (code, out) == (1, "")
        assert err == f"veredus: {config}: listn: there is no such setting\n"


async def test_the_environment_alone_configures(tmp_path: Path, database: str, redis_url: str) -> None:
    (tmp_path / "secret").write_text("s" * 48)
    environment = {"DATABASE_URL": database, "REDIS_URL": redis_url, "VEREDUS_SECRET_FILE": str(tmp_path / "secret")}
    async with veredus("serve", **environment, VEREDUS_LISTEN_PORT="0") as program:
        assert (await serving(program.process.stderr)).startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["chat", "--help"], 0),
        ([], 2),
        (["fly"], 2),
        (["dev", "--port", "65536"], 2),
        (["dev", "--port", "x"], 2),
        (["account", "create", "--devices", "0"], 2),
        (["account", "create", "--devices", "7"], 2),
        (["chat", "ws://127.0.0.1:1", "--as", "somebody:hunter2"], 2),
    ],
)
async def test_arguments_are_answered_without_a_traceback(arguments: list[str], code: int) -> None:
    found, _, err = await run(*arguments)
    assert found == code
    assert "Traceback" not in err
    assert "hunter2" not in err


async def test_answering_the_version_loads_no_server() -> None:
    program = (
        "import sys; from veredus.server.__main__ import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "print([name for name in ('litestar', 'asyncpg', 'redis', 'uvloop', 'structlog') if name in sys.modules])"
    )
    import asyncio

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT)
    out, _ = await process.communicate()
    assert out.decode().splitlines()[1:] == ["[]"]


def test_issued_credentials_do_not_show_their_password() -> None:
    from uuid import UUID

    issued = Issued(UUID(int=1), 1, "hunter2")
    assert "hunter2" not in repr(issued)
    assert issued.line().endswith(":hunter2")
