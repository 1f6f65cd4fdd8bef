"""Where the data of embedded stores lies, whose it is, which servers run on it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from tests.stores import temporary_folder
from veredus.server.failure import StartFailed
from veredus.server.process import folder
from veredus.server.process.binaries import Found
from veredus.server.process.embedded import Embedded

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what root does")


@pytest.fixture
def scratch() -> Iterator[Path]:
    with temporary_folder() as path:
        yield path


@pytest.fixture
def system_folder(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /var/lib/veredus, so that a test leaves nothing there."""
    monkeypatch.setattr(folder, "SYSTEM_FOLDER", scratch / "system")
    return scratch / "system"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def both_answer(stores: Embedded) -> None:
    connection = await asyncpg.connect(stores.dsn)
    assert await connection.fetchval("SELECT current_database()") == "veredus"
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SHOW listen_addresses") == ""
    await connection.close()
    async with redis.asyncio.Redis.from_url(stores.redis_url) as client:
        assert await client.ping()


async def test_the_servers_of_the_wheels_do_when_none_is_installed(scratch: Path) -> None:
    with Embedded(scratch / "data", installed=False) as stores:
        assert stores.versions["postgres"].split(".")[0] == "18"
        assert stores.versions["redis"] == "6.2.14"
        await both_answer(stores)


async def test_a_folder_with_spaces_and_signs_in_its_name_works(scratch: Path) -> None:
    with Embedded(scratch / "my data? 100%&é") as stores:
        await both_answer(stores)


async def test_a_path_too_long_for_a_socket_gets_a_short_private_folder_that_is_removed(scratch: Path) -> None:
    data = scratch / ("long" * 20) / ("name" * 10)
    with Embedded(data) as stores:
        await both_answer(stores)
        sockets = stores.sockets
        assert sockets.parent == Path("/tmp")
        assert mode(sockets) == 0o700
        assert sockets.stat().st_uid == (data / "stores").stat().st_uid
    assert not sockets.exists()


def test_a_short_folder_that_somebody_else_made_is_refused(scratch: Path) -> None:
    data = scratch / ("long" * 20) / ("name" * 10)
    squatted = folder.settle(data).sockets
    squatted.chmod(0o755)
    try:
        with pytest.raises(StartFailed, match="is not a private folder"):
            folder.settle(data)
    finally:
        squatted.rmdir()


async def test_data_and_sockets_are_closed_to_others(scratch: Path) -> None:
    with Embedded(scratch / "data") as stores:
        assert mode(scratch / "data/stores") == 0o700
        assert mode(scratch / "data/stores/postgres") == 0o700
        assert mode(stores.sockets) == 0o700


async def test_an_initialisation_that_was_cut_off_is_begun_anew(scratch: Path) -> None:
    with Embedded(scratch / "data"):
        pass
    stores_folder = scratch / "data/stores"
    (stores_folder / "postgres").rename(stores_folder / "postgres.new")
    (stores_folder / "postgres.new/PG_VERSION").unlink()
    with Embedded(scratch / "data") as stores:
        await both_answer(stores)


def test_data_of_a_version_that_is_not_here_is_refused_with_the_package_to_install(scratch: Path) -> None:
    place = folder.settle(scratch / "data")
    place.postgres.mkdir()
    (place.postgres / "PG_VERSION").write_text("99\n")
    with pytest.raises(StartFailed, match=r"data is of PostgreSQL 99, found is .*: install postgresql-99"):
        Embedded(scratch / "data")


def test_a_server_that_cannot_start_is_told_with_its_own_reason(scratch: Path) -> None:
    with Embedded(scratch / "data"):
        pass
    (scratch / "data/stores/postgres/postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(StartFailed, match=r"PostgreSQL ended at its start: .*no_such_setting"):
        Embedded(scratch / "data")


@as_root
def test_root_makes_the_servers_run_as_another_user(scratch: Path) -> None:
    with Embedded(scratch / "data") as stores:
        owner = (scratch / "data/stores").stat().st_uid
        assert owner != 0
        for handle in (stores.postgres, stores.redis):
            assert Path(f"/proc/{handle.pid}").stat().st_uid == owner
        assert Path(f"/proc/{stores.watcher_pid}").stat().st_uid == owner


@as_root
async def test_a_folder_closed_to_that_user_stays_closed_and_the_data_goes_elsewhere(scratch: Path, system_folder: Path) -> None:
    private = scratch / "private"
    private.mkdir(mode=0o700)
    with Embedded(private / "data") as stores:
        await both_answer(stores)
        assert stores.folder.parent == system_folder
        assert len(stores.notices) == 1
        assert str(stores.folder) in stores.notices[0]
    assert mode(private) == 0o700
    assert mode(system_folder) == 0o711


@as_root
def test_data_that_belongs_to_a_user_is_run_as_that_user(scratch: Path) -> None:
    owner = folder.settle(scratch / "data").account
    assert owner is not None
    other = 65534 if owner.uid != 65534 else 1
    os.chown(scratch / "data/stores", other, -1)
    account = folder.settle(scratch / "data").account
    assert account is not None
    assert account.uid == other


@as_root
def test_servers_in_a_closed_environment_are_copied_to_where_their_user_can_run_them(scratch: Path, system_folder: Path) -> None:
    private = scratch / "private"
    (private / "install/bin").mkdir(parents=True)
    (private / "install/share").mkdir()
    (private / "install/share/data").write_text("data")
    program = private / "install/bin/postgres"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    private.chmod(0o700)
    account = folder.settle(scratch / "data").account
    found = Found(program, (99, 1), private / "install")
    copy = folder.reachable_program(found, account)
    assert copy.program == system_folder / "postgres-99.1/bin/postgres"
    assert account is not None
    assert subprocess.run([copy.program, "--version"], user=account.uid, group=account.gid, extra_groups=[]).returncode == 0
    assert (system_folder / "postgres-99.1/share/data").read_text() == "data"
    assert copy.program.stat().st_uid == 0
    assert mode(private) == 0o700
    assert folder.reachable_program(found, account) == copy, "the copy is made once"
    with pytest.raises(StartFailed, match="cannot run"):
        folder.reachable_program(Found(program, (99, 1)), account)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any folder")
def test_a_folder_of_another_user_is_refused(scratch: Path) -> None:
    with pytest.raises(StartFailed, match="Permission denied"):
        Embedded(Path("/root/data"))
