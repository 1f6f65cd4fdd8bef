"""A history survives the death of the client that wrote it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.checker.history import Ack, Connect, Deliver, Device, History, Quiescent, Send, digest_of

HERE = Device(b"h" * 16, 1)


def test_every_event_reads_back_as_it_was_written(tmp_path: Path) -> None:
    history = History(tmp_path / "client.jsonl")
    history.record(Connect(connection="c", device=HERE))
    history.record(Send(connection="c", seq=1, client_id=b"i" * 16, destination=HERE.account, contents=((1, digest_of(b"content")),)))
    history.record(Deliver(connection="c", tag=1, guid=b"g" * 16, digest=digest_of(b"content"), source=HERE))
    history.record(Ack(connection="c", tags=(1,), guids=(b"g" * 16,), up_to=1))
    history.record(Quiescent())
    assert list(History.read(tmp_path / "client.jsonl")) == list(history)


def test_histories_of_several_clients_are_joined_by_time(tmp_path: Path) -> None:
    one, other = History(tmp_path / "one"), History(tmp_path / "other")
    for number in range(4):
        (one, other)[number % 2].record(Connect(connection=f"c{number}", device=HERE))
    joined = History.read(tmp_path / "other", tmp_path / "one")
    assert [event.connection for event in joined if isinstance(event, Connect)] == ["c0", "c1", "c2", "c3"]


def test_a_killed_client_leaves_everything_it_recorded(tmp_path: Path) -> None:
    path = tmp_path / "client.jsonl"
    script = (
        "import sys; from pathlib import Path; from tests.checker.history import *\n"
        "history = History(Path(sys.argv[1]))\n"
        "for number in range(100): history.record(Connect(connection=str(number), device=Device(b'h' * 16, 1)))\n"
        "print('recorded', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"recorded\n"
        os.kill(process.pid, signal.SIGKILL)
    path.write_bytes(path.read_bytes() + b'{"event":"conn')
    assert [event.connection for event in History.read(path) if isinstance(event, Connect)] == [str(number) for number in range(100)]
