"""What a test needs of the machine: `@needs("chromium")`. Missing, the test is skipped and says which package brings it.

With VEREDUS_REQUIRE_ALL=1 (`.ci/run` sets it) a missing need is a failure, so that nothing stays unproven unnoticed.
Installs nothing itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

REQUIRE_ALL = "VEREDUS_REQUIRE_ALL"

needs = pytest.mark.needs


class Need(NamedTuple):
    """How to see whether something is here, and what a person does about it: install a Debian package, or what `remedy` says."""

    found: Callable[[], bool]
    package: str = ""
    remedy: str = ""

    def advice(self) -> str:
        return ", ".join(part for part in (f"Debian package {self.package}" if self.package else "", self.remedy) if part)


def on_path(*names: str) -> Callable[[], bool]:
    return lambda: any(shutil.which(name) for name in names)


def redis_of_at_least(major: int) -> bool:
    server = shutil.which("redis-server")
    if server is None:
        return False
    answer = subprocess.run([server, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    version = re.search(r"\bv=(\d+)\.", answer)
    return version is not None and int(version[1]) >= major


def postgresql_of_at_least(major: int) -> bool:
    """Debian keeps server binaries off the PATH, one folder per major version."""
    return any(int(binary.parts[-3]) >= major for binary in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb"))


NEEDS: dict[str, Need] = {
    "chromium": Need(on_path("chromium", "chromium-browser"), "chromium"),
    "curl": Need(on_path("curl"), "curl"),
    "haproxy": Need(on_path("haproxy"), "haproxy"),
    "node": Need(on_path("node"), "nodejs"),
    "postgresql": Need(lambda: postgresql_of_at_least(15), "postgresql", "version 15 or newer"),
    "redis7": Need(lambda: redis_of_at_least(7), "redis-server", "version 7 or newer"),
    "root": Need(lambda: os.geteuid() == 0, remedy="run the tests as root: this one acts as another user"),
    "systemd": Need(on_path("systemd-analyze"), "systemd"),
}


def missing(names: Iterable[str]) -> list[str]:
    """What of `names` is not here, each with its remedy."""
    return [f"{name} ({NEEDS[name].advice()})" for name in names if not NEEDS[name].found()]


def named(item: pytest.Item) -> list[str]:
    return [name for marker in item.iter_markers("needs") for name in marker.args]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in named(item):
            if name not in NEEDS:
                raise pytest.UsageError(f"{item.nodeid} needs {name!r}, which tests/needs.py does not know")


@pytest.hookimpl(tryfirst=True)  # before fixtures, which may want what is missing
def pytest_runtest_setup(item: pytest.Item) -> None:
    lacking = missing(named(item))
    if not lacking:
        return
    reason = "needs " + ", ".join(lacking)
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason}; {REQUIRE_ALL}=1 forbids skipping", pytrace=False)
    pytest.skip(reason)
