"""What the machine and the stores say while a test runs: CPU of process trees, memory, write-ahead log, settings. Reads only."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import asyncpg
import msgspec

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
PROC = Path("/proc")
SETTINGS = (
    "server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_compression", "shared_buffers", "max_wal_size",
    "synchronous_standby_names", "wal_sync_method",
)  # fmt: skip
# A worker names its connections by what they are for; the server's own processes have a type.
BACKENDS = "SELECT coalesce(nullif(application_name, ''), backend_type), pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
PACKAGES = ("veredus", "uvloop", "picows", "aiofastnet", "asyncpg", "redis", "hiredis", "Cython")


class Watched(msgspec.Struct, frozen=True):
    """The server as far as it can be looked at: process trees by part (workers, postgres, redis), the database's DSN."""

    pids: Mapping[str, tuple[int, ...]] = {}
    dsn: str | None = None
    settings: Mapping[str, object] = {}


class Sample(msgspec.Struct, frozen=True):
    """One look."""

    cpu_seconds: dict[str, float]
    system_seconds: dict[str, float]  # of those, in the kernel
    backend_seconds: dict[str, float]  # of postgres, by what each of its processes is for
    rss_kib: dict[str, int]
    wal_bytes: int | None


class _Process(msgspec.Struct, frozen=True):
    parent: int
    cpu_seconds: float  # with that of children it has waited for
    system_seconds: float
    rss_kib: int


async def look(watched: Watched, connection: asyncpg.Connection | None) -> Sample:
    """Now. A part without processes is left out."""
    every = _processes()
    trees = {part: list(_tree(every, pids)) for part, pids in watched.pids.items() if pids}
    wal = await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'") if connection is not None else None
    backends: dict[str, float] = {}
    for purpose, pid in await connection.fetch(BACKENDS) if connection is not None else ():
        if pid in every:  # the database is on this machine
            backends[purpose] = backends.get(purpose, 0.0) + every[pid].cpu_seconds
    return Sample(
        {part: sum(each.cpu_seconds for each in tree) for part, tree in trees.items()},
        {part: sum(each.system_seconds for each in tree) for part, tree in trees.items()},
        backends,
        {part: sum(each.rss_kib for each in tree) for part, tree in trees.items()},
        None if wal is None else int(wal),
    )


async def settings(connection: asyncpg.Connection | None) -> dict[str, str]:
    """What of the database's settings decides about durability and speed."""
    if connection is None:
        return {}
    return {name: await connection.fetchval("SELECT current_setting($1, true)", name) or "" for name in SETTINGS}


def host() -> dict[str, object]:
    """The machine and the versions."""
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": commit(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """Of the checkout this runs from, `+` behind it when files differ; empty elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        name = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True, timeout=10)
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return name.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            # proc(5): ppid is field 4, utime to cstime 14 to 17, rss 24; the state, field 3, is the first here.
            times = [int(field) / TICKS for field in fields[11:15]]
            found[int(entry.name)] = _Process(int(fields[1]), sum(times), times[1] + times[3], int(fields[21]) * PAGE_KIB)
    return found


def _tree(every: Mapping[int, _Process], roots: Iterable[int]) -> Iterable[_Process]:
    children: dict[int, list[int]] = {}
    for pid, process in every.items():
        children.setdefault(process.parent, []).append(pid)
    todo = [pid for pid in roots if pid in every]
    while todo:
        pid = todo.pop()
        todo += children.get(pid, [])
        yield every[pid]


def _cpu_model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
