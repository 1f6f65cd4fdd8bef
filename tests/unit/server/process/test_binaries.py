"""Which servers are taken, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from veredus.server.failure import StartFailed
from veredus.server.process import binaries


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without servers: an empty PATH folder, no installations, no wheels."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "INSTALLED_POSTGRES", (f"{tmp_path}/lib/*/bin",))
    monkeypatch.setattr(binaries, "REDIS_FOLDER", tmp_path / "sbin")
    monkeypatch.setattr(binaries, "POSTGRES_WHEEL", "veredus_no_such_wheel")
    monkeypatch.setattr(binaries, "REDIS_WHEEL", "veredus_no_such_wheel")
    return tmp_path


def put(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def put_postgres(folder: Path, version: str) -> Path:
    put(folder / "initdb", version)
    return put(folder / "postgres", f"postgres (PostgreSQL) {version} (Debian {version}-0+deb12u1)")


def test_without_any_server_the_error_says_how_to_get_one(bare: Path) -> None:
    with pytest.raises(
        StartFailed, match=r"no PostgreSQL >= 15 was found: `pip install veredus\[embedded\]`, or install the package `postgresql`"
    ):
        binaries.postgres()
    with pytest.raises(
        StartFailed, match=r"no Redis >= 6.2 was found: `pip install veredus\[embedded\]`, or install the package `redis-server`"
    ):
        binaries.redis()


def test_the_newest_installed_server_is_taken(bare: Path) -> None:
    put_postgres(bare / "lib/15/bin", "15.18")
    newest = put_postgres(bare / "lib/17/bin", "17.2")
    assert binaries.postgres() == binaries.Found(newest, (17, 2))


def test_a_link_on_the_path_leads_to_its_installation(bare: Path) -> None:
    real = put_postgres(bare / "elsewhere/16/bin", "16.1")
    (bare / "postgres").symlink_to(real)
    assert binaries.postgres().program == real


def test_servers_too_old_broken_or_without_initdb_are_passed_over(bare: Path) -> None:
    put_postgres(bare / "lib/14/bin", "14.9")
    put(bare / "lib/16/bin/postgres", "postgres (PostgreSQL) 16.1")
    put_postgres(bare / "lib/17/bin", "17.1")
    put(bare / "lib/17/bin/postgres", "segmentation fault")
    with pytest.raises(StartFailed):
        binaries.postgres()


def test_the_major_version_of_the_data_decides(bare: Path) -> None:
    older = put_postgres(bare / "lib/15/bin", "15.18")
    put_postgres(bare / "lib/17/bin", "17.2")
    assert binaries.postgres(major=15).program == older


@pytest.mark.parametrize(
    ("name", "says", "version"),
    [
        ("redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", (7, 0, 15)),
        ("valkey-server", "Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", (8, 0, 1)),
    ],
)
def test_redis_and_its_fork_are_found(bare: Path, name: str, says: str, version: tuple[int, ...]) -> None:
    program = put(bare / name, says)
    assert binaries.redis() == binaries.Found(program, version)


def test_a_redis_too_old_is_passed_over(bare: Path) -> None:
    put(bare / "redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=1")
    with pytest.raises(StartFailed):
        binaries.redis()


def test_a_folder_on_the_path_that_cannot_be_entered_is_no_obstacle(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put(bare / "redis-server", "Redis server v=7.0.15 sha=0")
    monkeypatch.setenv("PATH", f"{bare}/missing:{program}:{bare}")
    assert binaries.redis().program == program
