"""However the owner of embedded stores ends, nothing of them stays, and the next start has what was committed."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio

from tests.embedded_owner import Owner, interpreter_for, wait_gone
from tests.stores import temporary_folder
from veredus.server.failure import StartFailed
from veredus.server.process.embedded import Embedded


@pytest.fixture
def data() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder / "data"


async def store_a_row(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await connection.close()


async def stored_row(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT answer FROM kept"))
    finally:
        await connection.close()


def idle_process(uid: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], user=uid if os.geteuid() == 0 else None)


async def test_a_killed_owner_leaves_no_process_and_the_next_start_has_the_row(data: Path) -> None:
    with Owner(data) as owner:
        await store_a_row(owner.dsn)
        family = owner.family()
        assert len(family) > 5, "watcher, postmaster with its workers, redis"
        owner.signal(signal.SIGKILL)
        wait_gone(family)
    assert not (data / "stores/postgres/postmaster.pid").exists(), "a clean stop"
    with Embedded(data) as stores:
        assert await stored_row(stores.dsn) == 42


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("return", None),
        ("return without stop", None),
        ("exception", None),
        ("return", signal.SIGTERM),
        ("return", signal.SIGINT),
        ("return", signal.SIGHUP),
    ],
)
def test_every_end_of_the_owner_stops_both_servers_cleanly(data: Path, how: str, end: signal.Signals | None) -> None:
    with Owner(data, how) as owner:
        family = owner.family()
        owner.signal(end) if end else owner.end()
        wait_gone(family)
    assert not (data / "stores/postgres/postmaster.pid").exists()
    assert not (data / "stores/redis.sock").exists()
    assert "database system is shut down" in (data / "stores/log/postgres.log").read_text()


async def test_a_fork_of_the_owner_that_lives_on_keeps_nothing_running(data: Path) -> None:
    with Owner(data, "fork") as owner:
        forked = [child.pid for child in psutil.Process(owner.process.pid).children() if child.pid != owner.told["watcher"]]
        assert len(forked) == 1
        family = owner.family()
        owner.signal(signal.SIGKILL)
        wait_gone(family)
        os.kill(forked[0], signal.SIGKILL)  # it was there all the time, holding the pipe


async def test_after_a_kill_of_everything_at_once_the_next_start_recovers(data: Path) -> None:
    with Owner(data) as owner:
        await store_a_row(owner.dsn)
        parents = [owner.process.pid, *(owner.told[name] for name in ("watcher", "postgres", "redis"))]
        for pid in parents:
            os.kill(pid, signal.SIGSTOP)  # so that none can clean up after another
        everything = [*parents, *owner.family()]
        for pid in everything:
            with suppress(ProcessLookupError):  # the backend of the connection just closed
                os.kill(pid, signal.SIGKILL)
        wait_gone(everything)
    assert (data / "stores/postgres/postmaster.pid").exists()
    assert (data / "stores/redis.sock").exists()
    with Embedded(data) as stores:
        assert await stored_row(stores.dsn) == 42
        async with redis.asyncio.Redis.from_url(stores.redis_url) as client:
            assert await client.ping()


async def test_a_stale_pid_file_that_names_another_living_process_does_not_stop_the_start(data: Path) -> None:
    with Embedded(data) as stores:
        await store_a_row(stores.dsn)
    owner = (data / "stores").stat().st_uid
    other = idle_process(owner)  # PostgreSQL would take any process of its own user for itself
    try:
        pid_file = data / "stores/postgres/postmaster.pid"
        pid_file.write_text(f"{other.pid}\n{data}/stores/postgres\n1700000000\n5432\n{data}/stores\n\n  1 2\nready   \n")
        os.chown(pid_file, owner, -1)
        with Embedded(data) as stores:
            assert await stored_row(stores.dsn) == 42
        assert other.poll() is None, "somebody else's process is not ours to stop"
    finally:
        other.kill()
        other.wait()


def test_a_killed_watcher_takes_its_servers_with_it(data: Path) -> None:
    with Owner(data) as owner:
        family = owner.family()
        os.kill(owner.told["watcher"], signal.SIGKILL)
        wait_gone(family)
    assert not (data / "stores/postgres/postmaster.pid").exists(), "a clean stop"


async def test_a_start_right_after_the_watcher_was_killed_takes_over(data: Path) -> None:
    with Owner(data) as owner:
        await store_a_row(owner.dsn)
        family = owner.family()
        os.kill(owner.told["watcher"], signal.SIGKILL)
        with Embedded(data) as stores:
            assert await stored_row(stores.dsn) == 42
            wait_gone(family)


def test_a_second_owner_is_refused_and_told_who_has_the_folder(data: Path) -> None:
    with Owner(data) as owner:
        with pytest.raises(StartFailed, match=rf"in use by process {owner.process.pid}$"):
            Embedded(data)
        assert owner.end() == 0


def test_a_folder_still_being_left_is_waited_for(data: Path) -> None:
    with Owner(data) as owner:
        owner.signal(signal.SIGKILL)
        with Embedded(data) as stores:
            assert stores.postgres.pid


async def test_a_server_that_crashes_is_started_again(data: Path) -> None:
    with Embedded(data) as stores:
        await store_a_row(stores.dsn)
        crashed = stores.postgres.pid
        os.kill(crashed, signal.SIGKILL)
        wait_gone([crashed])
        while stores.postgres.pid in (0, crashed):  # answered by the watcher once it has looked again; bounded by the test's timeout
            pass
        assert await stored_row(stores.dsn) == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
async def test_an_ordinary_user_runs_both_as_himself() -> None:
    user = "nobody"
    if interpreter_for(user) is None:
        pytest.skip("this checkout is closed to other users")
    with temporary_folder() as folder:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        with Owner(folder / "data", user=user) as owner:
            await store_a_row(owner.dsn)
            assert owner.users() == {user}
            assert owner.end() == 0
