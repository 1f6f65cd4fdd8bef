"""The load test against a server of its own: every workload runs, checks itself, and says what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SECONDS = 100.0


def loadtest(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the command; the result it wrote."""
    written = folder / "result.json"
    command = [sys.executable, "-m", "veredus.server", "loadtest", *arguments, "--embedded", "--json", str(written)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sound" in done.stdout
    result: dict[str, Any] = json.loads(written.read_text())
    wrong = {name: count for name, count in result["checks"].items() if count and name != "refused"}
    assert not wrong
    return result


@pytest.mark.parametrize("workload", ["identified", "sealed"])
def test_pairs_exchange_messages_and_nothing_is_lost(tmp_path: Path, workload: str) -> None:
    result = loadtest(tmp_path, workload, "--pairs", "6", "--window", "4", "--seconds", "1", "--warmup", "0.2", "--generators", "2")
    assert result["whole_run"]["sent"] == result["whole_run"]["delivered"] > 0
    assert result["delivered_per_s"] > 0
    assert set(result["cpu_us_per_message"]) == {"workers", "postgres", "redis", "generator", "server"}
    assert result["delivered_latency_ms"]["p50"] <= result["delivered_latency_ms"]["p99"] <= result["delivered_latency_ms"]["max"]
    assert result["wal_bytes_per_message"] > 300
    assert result["settings"]["postgres"]["fsync"] == "on"
    assert result["settings"]["postgres"]["synchronous_commit"] == "on"


def test_an_open_loop_sends_what_it_was_asked_to(tmp_path: Path) -> None:
    result = loadtest(tmp_path, "identified", "--pairs", "5", "--rate", "200", "--seconds", "1", "--warmup", "0.2", "--tls")
    assert 150 <= result["sent_per_s"] <= 250


def test_a_backlog_is_drained(tmp_path: Path) -> None:
    result = loadtest(tmp_path, "drain", "--connections", "12", "--stored", "150", "--pairs", "3")
    assert result["whole_run"] == {"sent": 1800, "delivered": 1800}


def test_connections_are_counted_and_weighed(tmp_path: Path) -> None:
    assert loadtest(tmp_path, "connect", "--connections", "40")["connect_latency_ms"]["count"] == 40
    assert loadtest(tmp_path, "idle", "--connections", "40", "--seconds", "0.2")["rss_kb_per_connection"] is not None


def test_a_test_without_a_server_fails_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("00000000-0000-4000-8000-000000000001.1:secret\n" * 4)
    done = subprocess.run(
        [sys.executable, "-m", "veredus.server", "loadtest", "identified", "--url", "ws://127.0.0.1:1/v1/websocket",
         "--credentials", str(tmp_path / "credentials"), "--pairs", "2"],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "veredus loadtest: a generator failed" in done.stderr
