"""What a service manager hears from a real supervisor, and whether systemd takes our units."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import needs
from tests.sources import ROOT
from tests.supervised import BOUND, Supervised


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(BOUND)
        yield listening


def heard(manager: socket.socket, state: str) -> list[str]:
    """The lines of the next message that has this state."""
    while True:
        lines = manager.recv(4096).decode().split("\n")
        if state in lines:
            return lines


def test_the_manager_hears_of_every_state(tmp_path: Path, manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": str(manager.getsockname()), "WATCHDOG_USEC": "200000"}
    with Supervised(tmp_path, environ=environ).start() as service:
        assert manager.recv(4096).decode().split("\n") == ["READY=1", "STATUS=2 of 2 workers serve"], "nothing before all are ready"
        service.wait_for("ready")
        assert service.count("about to be ready") == 2
        heard(manager, "WATCHDOG=1")
        heard(manager, "WATCHDOG=1")
        service.signal(signal.SIGHUP)
        reloading = heard(manager, "RELOADING=1")
        assert int(reloading[1].removeprefix("MONOTONIC_USEC=")) > 0
        heard(manager, "READY=1")
        service.signal(signal.SIGTERM)
        heard(manager, "STOPPING=1")
        assert service.end() == 0


def test_a_restart_that_fails_ends_the_reload_and_says_so(tmp_path: Path, manager: socket.socket) -> None:
    with Supervised(tmp_path, environ={"NOTIFY_SOCKET": str(manager.getsockname())}).started() as service:
        heard(manager, "READY=1")
        (service.faults / "0").write_text("exit")
        service.signal(signal.SIGHUP)
        heard(manager, "RELOADING=1")
        assert "abandoned" in heard(manager, "READY=1")[1]


def test_the_manager_hears_how_many_serve_after_a_death(tmp_path: Path, manager: socket.socket) -> None:
    with Supervised(tmp_path, environ={"NOTIFY_SOCKET": str(manager.getsockname())}).started() as service:
        heard(manager, "READY=1")
        os.kill(service.serving()[0], signal.SIGKILL)
        heard(manager, "STATUS=1 of 2 workers serve")
        heard(manager, "STATUS=2 of 2 workers serve")


@needs("systemd")
def test_systemd_takes_our_units_without_a_word(tmp_path: Path) -> None:
    """`verify` ends with 0 whatever it finds, so silence is the proof. It wants the program to exist."""
    for name in ("veredus.service", "veredus.socket"):
        text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/opt/veredus/bin/veredus", "/bin/true"), encoding="utf-8")
    assert verified(tmp_path / "veredus.service", tmp_path / "veredus.socket") == ""


@needs("systemd")
def test_a_misspelt_key_in_a_unit_is_seen(tmp_path: Path) -> None:
    unit = tmp_path / "veredus.service"
    unit.write_text("[Service]\nExecStart=/bin/true\nWatchdogSeconds=1\n", encoding="utf-8")
    assert "WatchdogSeconds" in verified(unit)


def verified(*units: Path) -> str:
    return subprocess.run(["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True, timeout=60).stderr
