"""Lays out the data folder of the embedded stores: where it is, whose it is, where the sockets go.

Never opens an existing folder to anybody: what the servers' user cannot reach is put elsewhere, and said. Layout:

    FOLDER/                  what the caller named; owned by him
      stores/      (0700)    owned by the servers' user: lock, postgres/, redis/, log/ and, where the path is short enough, the sockets
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from veredus.server.failure import StartFailed
from veredus.server.process.binaries import Found

SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path is 108 with its final NUL (unix(7))
LONGEST_SOCKET = ".s.PGSQL.5432"
SYSTEM_FOLDER = Path("/var/lib/veredus")  # for root when the wanted folder cannot be reached by the servers' user
USERS = ("postgres", "nobody")  # whom root runs the servers as: the distribution's own, else the one every system has
PASSABLE = 0o711  # root's folders on the way to the stores: to go through, not to look around in


@dataclass(frozen=True)
class Account:
    """Whom the servers run as."""

    name: str
    uid: int
    gid: int


@dataclass
class Place:
    """Where the stores live. `account` is None when they run as whoever started them; `notices` are lines for the operator."""

    stores: Path
    sockets: Path
    account: Account | None
    notices: list[str] = field(default_factory=list)

    @property
    def postgres(self) -> Path:
        return self.stores / "postgres"

    def major(self) -> int | None:
        """The PostgreSQL the data was made by, None when there is none yet."""
        try:
            return int((self.postgres / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None


def settle(wanted: Path) -> Place:
    """Make (or find) the data folder and say where everything is. Raises `StartFailed` when nowhere fits."""
    wanted = wanted.expanduser().resolve()  # as the kernel will tell the servers' folders
    try:
        place = _as_root(wanted) if os.geteuid() == 0 else _as_ourselves(wanted)
        place.sockets = _sockets(place)
    except OSError as error:
        raise StartFailed(f"data folder {wanted}: {error.strerror}: {error.filename}") from error
    return place


def reachable_program(found: Found, account: Account | None) -> Found:
    """The program itself, or root's copy of its bundle in a place the account can go to.

    A virtual environment under /root is closed to others, and stays so. Raises `StartFailed` when the account can run neither.
    """
    if account is None or _runs(found.program, account):
        return found
    if found.bundle is None:
        raise StartFailed(f"user {account.name}, as whom the stores run, cannot run {found.program}")
    target = _system_folder() / f"{found.program.name}-{found.text}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=SYSTEM_FOLDER) as scratch:
            copy = shutil.copytree(found.bundle, Path(scratch) / "copy", symlinks=True)
            subprocess.run(["chmod", "-R", "go=rX", str(copy)], check=True)
            copy.replace(target)
    program = target / found.program.relative_to(found.bundle.resolve())
    if not _runs(program, account):
        raise StartFailed(f"user {account.name} can run neither {found.program} nor its copy {program}")
    return Found(program, found.version, target)


def _as_ourselves(wanted: Path) -> Place:
    stores = wanted / "stores"
    stores.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = stores.stat().st_uid
    if owner != os.geteuid():
        raise StartFailed(f"data folder {wanted} belongs to user {_name(owner)}: start as that user or choose another folder")
    stores.chmod(0o700)
    return Place(stores, stores, None)


def _as_root(wanted: Path) -> Place:
    account = _account(wanted)
    notices = []
    folder = wanted
    _make_passable(folder)
    if not _passes(folder, account):
        digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:8]
        folder = _system_folder() / f"{wanted.name}-{digest}"
        _make_passable(folder)
        if not _passes(folder, account):
            raise StartFailed(f"user {account.name} can reach neither {wanted} nor {folder}: choose another folder")
        notices.append(f"{wanted} cannot be reached by user {account.name}, as whom the stores run: their data is in {folder}")
    stores = folder / "stores"
    stores.mkdir(mode=0o700, exist_ok=True)
    status = stores.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, account.uid):
        raise StartFailed(f"{stores} is not a folder of user {account.name}: choose another data folder")
    os.chown(stores, account.uid, account.gid, follow_symlinks=False)
    stores.chmod(0o700)
    return Place(stores, stores, account, notices)


def _account(wanted: Path) -> Account:
    """Whoever the data belongs to already, else the first of USERS there is."""
    try:
        owner = (wanted / "stores").stat().st_uid
    except FileNotFoundError:
        owner = 0
    try:
        entries = [pwd.getpwuid(owner)] if owner else [pwd.getpwnam(name) for name in USERS if _known(name)]
    except KeyError:
        raise StartFailed(f"the data in {wanted} belongs to user id {owner}, which has no name here") from None
    if not entries:
        raise StartFailed("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`: start as an ordinary user")
    return Account(entries[0].pw_name, entries[0].pw_uid, entries[0].pw_gid)


def _known(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid != 0
    except KeyError:
        return False


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _make_passable(folder: Path) -> None:
    """Make what is missing of a path, each new folder passable; what exists is left as it is."""
    for each in (*reversed(folder.parents), folder):
        if not each.exists():
            each.mkdir()
            each.chmod(PASSABLE)  # whatever the umask says


def _system_folder() -> Path:
    _make_passable(SYSTEM_FOLDER)
    return SYSTEM_FOLDER


def _passes(folder: Path, account: Account) -> bool:
    """Asked of the kernel, so that access lists and mounts count too."""
    return _try(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)], account)


def _runs(program: Path, account: Account) -> bool:
    return _try([str(program), "--version"], account)


def _try(command: list[str], account: Account) -> bool:
    try:
        done = subprocess.run(command, cwd="/", user=account.uid, group=account.gid, extra_groups=[], capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _sockets(place: Place) -> Path:
    """The stores folder where its path leaves room for a socket's name, else a short private one named after it."""
    if len(os.fsencode(place.stores / LONGEST_SOCKET)) <= SOCKET_PATH_BYTES:
        return place.stores
    owner = place.account.uid if place.account else os.geteuid()
    group = place.account.gid if place.account else os.getegid()
    name = f"veredus-{owner}-{hashlib.sha256(os.fsencode(place.stores)).hexdigest()[:12]}"
    folder = Path("/tmp") / name  # not gettempdir(): TMPDIR may be long too
    if not folder.exists():
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, group, follow_symlinks=False)
    status = folder.lstat()
    # /tmp is everybody's: whoever else made the folder would own our sockets.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or status.st_mode & 0o077:
        raise StartFailed(f"{folder} exists and is not a private folder of user {_name(owner)}: remove it")
    return folder
