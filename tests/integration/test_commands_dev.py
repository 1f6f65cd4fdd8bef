"""`veredus dev` as a person runs it."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.commands import Program, run, veredus
from tests.embedded_owner import wait_gone
from tests.stores import temporary_folder
from veredus.client import Client, Credentials
from veredus.server.commands import demo
from veredus.server.config import load
from veredus.server.timeline import STAGES, RecentTimeline
from veredus.server.wiring import Worker

NUMBERS = re.compile(r"-?\d+\.\d")


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as path:
        yield path


def family(program: Program) -> list[int]:
    return [child.pid for child in psutil.Process(program.process.pid).children(recursive=True)]


async def test_once_shows_both_messages_through_every_stage_and_leaves_nothing() -> None:
    async with veredus("dev", "--once") as program:
        folder = Path((await program.until("starting PostgreSQL and Redis in")).split()[-2])
        await program.until("two demo accounts")
        processes = family(program)
        assert len(processes) > 5
        code, out, err = await program.ended()
    assert (code, err) == (0, "")
    header, online, away = out[out.index("milliseconds since accepted") :].splitlines()[1:4]
    assert header.split() == list(STAGES)
    for row in (online, away):
        times = [float(number) for number in NUMBERS.findall(row)]
        assert len(times) == len(STAGES)
        assert times[0] == 0.0
        assert times == sorted(times)
    wait_gone(processes)
    assert folder.name not in os.listdir("/tmp")


async def test_it_stays_up_can_be_used_by_the_other_commands_and_keeps_its_accounts(folder: Path) -> None:
    data = folder / "data"
    async with veredus("dev", "--data-dir", str(data), "--port", "0") as program:
        await program.until("serving; Ctrl-C ends it")
        chats = [line for line in program.lines if " chat ws://" in line]
        http = next(line.split()[-1] for line in program.lines if "/health" in line)
        async with httpx.AsyncClient() as web:
            assert (await web.get(http)).status_code == 200
        file = data / "veredus.yaml"
        code, out, err = await run("account", "create", "--devices", "2", "--config", str(file))
        assert (code, err) == (0, "")
        assert await can_talk(chats[0].split()[-5], [Credentials.parse(line) for line in out.splitlines()])
        code, out, err = await run("migrate", "--config", str(file))
        assert (code, err) == (0, "")
        processes = family(program)
        program.signal(signal.SIGTERM)
        assert (await program.ended())[0] == 0
        wait_gone(processes)
    for secret in ("secret", "veredus.yaml", "demo-accounts"):
        assert stat.S_IMODE((data / secret).stat().st_mode) == 0o600
    async with veredus("dev", "--data-dir", str(data), "--port", "0") as program:
        await program.until("serving; Ctrl-C ends it")
        again = [line for line in program.lines if " chat ws://" in line]
        assert [line.split("--as")[1] for line in again] == [line.split("--as")[1] for line in chats]
        program.signal(signal.SIGINT)
        assert (await program.ended())[0] == 0


async def can_talk(url: str, devices: list[Credentials]) -> bool:
    """One device of an account writes to the other."""
    one, two = (Client(f"{url}/v1/websocket", credentials) for credentials in devices)
    try:
        await one.connect()
        await two.connect()
        await one.send(devices[1].account, "hello", devices=[2])
        async for message in two.messages(auto_ack=True):
            return message.text == "hello"
    finally:
        await one.close()
        await two.close()
    return False


async def test_a_second_one_on_the_same_data_is_refused_in_one_line(folder: Path) -> None:
    async with veredus("dev", "--data-dir", str(folder / "data"), "--port", "0") as program:
        await program.until("serving; Ctrl-C ends it")
        code, _, err = await run("dev", "--data-dir", str(folder / "data"), "--port", "0")
        assert code == 1
        assert err == f"veredus: the data folder {folder}/data is in use by process {program.process.pid}\n"
        port = next(line for line in program.lines if "/health" in line).split(":")[-1].split("/")[0]
        code, _, err = await run("dev", "--once", "--port", port)
        assert code == 1
        assert err == f"veredus: cannot listen on 127.0.0.1 port {port}: another process does\n"
        program.signal(signal.SIGTERM)
        await program.ended()


async def test_a_message_that_misses_a_stage_makes_the_demonstration_fail(
    folder: Path, database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "secret").write_text("s" * 48)
    fixed = {"database_url": database, "redis_url": redis_url, "secret_file": str(folder / "secret"), "data_dir": str(folder)}
    config = load(None, {}, {**fixed, "development": True, "listen": {"address": "127.0.0.1", "port": 0}})
    monkeypatch.setattr(demo, "SECONDS", 3.0)
    worker = Worker(config)
    await worker.start()
    try:
        assert await demo.run(config, worker, folder / "veredus.yaml", {"postgres": "15", "redis": "6.2"})
        worker.timeline = RecentTimeline()  # which nobody marks
        assert not await demo.run(config, worker, folder / "veredus.yaml", {"postgres": "15", "redis": "6.2"})
    finally:
        await worker.stop()
    assert "demonstration FAILED: the message to a device online was never accepted, committed" in capsys.readouterr().out
