"""The datagrams of sd_notify, as a manager's socket receives them."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import pytest

from veredus.server.process.notify import Notifier


def test_states_arrive_at_a_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.ready("fine")
        notifier.watchdog()
        notifier.stopping("draining")
        notifier.status("nearly done")
        assert [manager.recv(4096) for _ in range(4)] == [
            b"READY=1\nSTATUS=fine",
            b"WATCHDOG=1",
            b"STOPPING=1\nSTATUS=draining",
            b"STATUS=nearly done",
        ]


def test_a_name_without_a_file_is_reached_too() -> None:
    name = f"veredus-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready("fine")
        assert manager.recv(4096) == b"READY=1\nSTATUS=fine"


def test_a_reload_has_the_time_it_began(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).reloading("rolling")
        state, began, _ = manager.recv(4096).decode().split("\n")
        assert state == "RELOADING=1"
        assert began.removeprefix("MONOTONIC_USEC=").isdigit()


def test_without_a_manager_nothing_happens() -> None:
    Notifier({}).ready("fine")


def test_a_manager_that_is_gone_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("fine")
    assert "did not take READY=1" in caplog.text


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_told_twice_per_limit_by_the_watched_process_alone(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environ).watchdog_seconds == seconds
