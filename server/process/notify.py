"""Tells the service manager how the service is: the sd_notify datagrams, without libsystemd. Silent where no manager listens.

What it sends is seen in `systemctl status`: counts and states only.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

SEND_SECONDS = 1.0  # a manager with a full queue must not stop the supervisor for longer

_log = logging.getLogger(__name__)


class Notifier:
    """The manager named by NOTIFY_SOCKET, if any.

    `watchdog_seconds` is how often it wants to hear WATCHDOG=1: half the limit it was configured with, as sd_watchdog_enabled(3) advises;
    None when it does not watch this process.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # "@" stands for the abstract namespace
        self.watchdog_seconds = _watchdog_seconds(environ)

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def reloading(self, status: str) -> None:
        """Must be followed by `ready`. The time lets `Type=notify-reload` tell this reload from an earlier one."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", f"STATUS={status}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(SEND_SECONDS)
                channel.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:  # a manager that is gone is no reason to stop serving
            _log.warning("the service manager did not take %s: %s", lines[0], error.strerror or error)


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    try:
        limit = int(environ.get("WATCHDOG_USEC", "0"))
        watched = int(environ.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return limit / 2_000_000 if limit > 0 and watched == os.getpid() else None
