"""Real forks: workers share the load, die, hang, fail to boot, are rolled and stopped, and no connection is refused meanwhile."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedded_owner import wait_gone
from tests.needs import needs
from tests.supervised import BOUND, HAND_OVER, Load, Supervised
from veredus.server.process.contract import BOOT_FAILED


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Supervised]:
    with Supervised(tmp_path).started() as running:
        yield running


def test_connections_are_spread_over_all_workers(tmp_path: Path) -> None:
    with Supervised(tmp_path, workers=3).started() as service:
        answers = Counter(service.ask() for _ in range(300))
        assert set(answers) == {(pid, index) for index, pid in service.serving().items()}
        assert len(answers) == 3
        assert min(answers.values()) >= 30, "the kernel hashes evenly: each third is 100 with a deviation of 8"


def test_a_worker_holds_nothing_of_other_workers(tmp_path: Path) -> None:
    """The last fork, and one that replaces another, have as many descriptors as an only child."""
    with Supervised(tmp_path, workers=1).started() as alone:
        expected = len(alone.wait_for("serving")["open"])
    with Supervised(tmp_path, workers=3).started() as service:
        seen = len(service.events)
        os.kill(service.serving()[1], signal.SIGKILL)
        service.wait_for("serving", since=seen, index=1)
        born = [told for told in service.events if told["event"] == "serving"]
        assert [len(told["open"]) for told in born] == [expected] * 4
        assert len({told["incarnation"] for told in born}) == 4


def test_a_killed_worker_is_replaced_and_no_connection_is_refused(service: Supervised) -> None:
    with Load(service) as load:
        load.wait_for_answers(50)
        for index in (0, 1, 0):
            seen = len(service.events)
            victim = service.serving()[index]
            os.kill(victim, signal.SIGKILL)
            replacement = service.wait_for("serving", since=seen, index=index)
            assert replacement["pid"] != victim
            load.wait_for_answers(50)
    assert set(load.errors) <= {"ConnectionResetError"}, "those it was answering at that moment"
    service.signal(signal.SIGTERM)
    assert service.end() == 0


def test_a_stopped_worker_is_replaced(tmp_path: Path) -> None:
    with Supervised(tmp_path, hang_seconds=1.0).started() as service:
        victim = service.serving()[0]
        seen = len(service.events)
        os.kill(victim, signal.SIGSTOP)
        service.wait_for("serving", since=seen, index=0)
        wait_gone([victim], BOUND)
        assert {index for _, index in (service.ask() for _ in range(40))} == {0, 1}


def test_a_worker_whose_loop_hangs_says_where_and_is_replaced(tmp_path: Path) -> None:
    with Supervised(tmp_path, workers=1, hang_seconds=1.0).started() as service:
        seen = len(service.events)
        with socket.create_connection(("127.0.0.1", service.port), timeout=BOUND) as connection:
            connection.sendall(b"GET /hang HTTP/1.1\r\n\r\n")
            service.wait_for("serving", since=seen, index=0)
        assert service.ask() == (service.serving()[0], 0)
        assert service.logged("its event loop hangs")
        assert "in data_received" in service.stderr(), "the traceback SIGABRT leaves"


def test_a_rolling_restart_under_load_renews_every_worker_without_an_error(service: Supervised) -> None:
    before = service.serving()
    with Load(service) as load:
        load.wait_for_answers(50)
        seen = len(service.events)
        service.signal(signal.SIGHUP)
        for index in (0, 1):
            service.wait_for("drained", since=seen, pid=before[index])
            service.wait_for("serving", since=seen, index=index)
        load.wait_for_answers(50)
    assert not load.errors
    assert not set(service.serving().values()) & set(before.values())
    steps = ("about to be ready", "draining", "drained")
    rolled = [(told["index"], told["event"]) for told in service.events[seen:] if told["event"] in steps]
    assert rolled == [(index, step) for index in (0, 1) for step in steps], "ready before drained, one by one"


def test_a_rolling_restart_that_fails_keeps_the_old_workers(service: Supervised) -> None:
    before = service.serving()
    (service.faults / "1").write_text("start failed")
    service.signal(signal.SIGHUP)
    service.wait_for_log("the rolling restart is abandoned")
    assert {pid for pid, index in (service.ask() for _ in range(40)) if index == 1} == {before[1]}
    service.signal(signal.SIGTERM)
    assert service.end() == 0
    assert service.count("boot fault") == 1


def test_a_rolling_restart_does_not_begin_with_the_next_before_the_one_before_is_done(tmp_path: Path) -> None:
    with Supervised(tmp_path, boot_seconds=1.0).started() as service:
        (service.faults / "0").write_text("never ready")
        seen = len(service.events)
        service.signal(signal.SIGHUP)
        service.wait_for_log("the rolling restart is abandoned")
        assert not [told for told in service.events[seen:] if told["event"] == "about to be ready"]


def test_two_hang_ups_at_once_leave_no_old_worker(service: Supervised) -> None:
    before = service.serving()
    seen = len(service.events)
    service.signal(signal.SIGHUP)
    service.wait_for("serving", since=seen, index=0)
    service.signal(signal.SIGHUP)
    service.wait_for_log("the rolling restart is done", since=seen)
    assert {index for pid, index in (service.ask() for _ in range(40)) if pid not in before.values()} == {0, 1}


@pytest.mark.requirement("SHD-1")
def test_term_drains_and_ends_with_status_0(service: Supervised) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=BOUND) as slow:
        slow.sendall(b"G")
        seen = len(service.events)
        # Accepted before anything drains: all connections of one slot are taken in order.
        assert {service.ask()[1] for _ in range(40)} == {0, 1}
        service.signal(signal.SIGTERM)
        service.wait_for("draining", since=seen)
    assert service.end() == 0
    assert service.count("drained") == 2
    with pytest.raises(ConnectionRefusedError):
        service.ask()


def test_a_worker_that_does_not_drain_is_killed_at_the_limit(tmp_path: Path) -> None:
    with Supervised(tmp_path, drain="never", drain_seconds=0.5).started() as service:
        service.signal(signal.SIGTERM)
        assert service.end() == 0
        assert service.count("draining") == 2
        wait_gone(list(service.serving().values()), BOUND)


def test_a_second_signal_ends_the_draining(tmp_path: Path) -> None:
    with Supervised(tmp_path, drain="never", drain_seconds=600.0).started() as service:
        service.signal(signal.SIGTERM)
        for index in (0, 1):
            service.wait_for("draining", index=index)
        with pytest.raises(ConnectionRefusedError):  # so that a balancer goes elsewhere, instead of waiting for nobody
            service.ask()
        service.signal(signal.SIGINT)
        assert service.end() == 0


@pytest.mark.requirement("SHD-1")
def test_an_interrupt_from_the_keyboard_drains_too(service: Supervised) -> None:
    """It reaches the workers as well: they leave the decision to the supervisor."""
    os.killpg(service.process.pid, signal.SIGINT)
    assert service.end() == 0
    assert service.count("drained") == 2


@pytest.mark.parametrize(("how", "words"), [("start failed", "the cellar is flooded"), ("exit", "exit status 9")])
def test_workers_that_cannot_boot_stop_the_supervisor(tmp_path: Path, how: str, words: str) -> None:
    with Supervised(tmp_path) as service:
        for index in ("0", "1"):
            (service.faults / index).write_text(how)
        service.start()
        assert service.end() == BOOT_FAILED
        [last] = [told["text"] for told in service.events if told["event"] == "log" and "giving up" in told["text"]]
        assert "failed to start 5 times in a row" in last
        assert words in last
        assert 5 <= service.count("boot fault") <= 10


def test_a_worker_that_is_never_ready_counts_as_a_failed_boot(tmp_path: Path) -> None:
    with Supervised(tmp_path, workers=1, boot_seconds=0.5, boot_failures=2) as service:
        (service.faults / "0").write_text("never ready")
        service.start()
        assert service.end() == BOOT_FAILED
        assert service.logged("not ready in time")


def test_a_slot_that_cannot_boot_does_not_end_the_others(tmp_path: Path) -> None:
    with Supervised(tmp_path, boot_failures=3).started() as service:
        (service.faults / "1").write_text("exit")
        victim, healthy = service.serving()[1], service.serving()[0]
        os.kill(victim, signal.SIGKILL)
        for _ in range(5):
            service.wait_for("boot fault", since=len(service.events))
        (service.faults / "1").unlink()
        service.wait_for("serving", since=len(service.events), index=1)
        assert service.serving()[0] == healthy


def test_workers_of_a_killed_supervisor_drain_and_end(service: Supervised) -> None:
    workers = list(service.serving().values())
    service.signal(signal.SIGKILL)
    wait_gone(workers, BOUND)
    service.end()
    assert service.count("drained") == 2


def test_workers_end_when_the_readers_of_the_log_died_with_the_supervisor(service: Supervised) -> None:
    """A log line that cannot be written raises in this program; nothing that must happen may stand behind it."""
    workers = list(service.serving().values())
    assert service.process.stdout is not None
    service.process.stdout.close()
    service.signal(signal.SIGKILL)
    wait_gone(workers, BOUND)


def test_an_orphan_that_does_not_drain_is_ended_by_the_kernel(tmp_path: Path) -> None:
    with Supervised(tmp_path, drain="never", orphan_seconds=0.3).started() as service:
        workers = list(service.serving().values())
        service.signal(signal.SIGKILL)
        wait_gone(workers, BOUND)


def test_a_stopped_supervisor_finds_its_workers_well(tmp_path: Path) -> None:
    """Beats waited in the pipes, and what it did not see is not held against them."""
    with Supervised(tmp_path, hang_seconds=2.0).started() as service:
        service.signal(signal.SIGSTOP)
        stopped_until = time.monotonic() + 3.0
        with Load(service) as load:
            while time.monotonic() < stopped_until:
                load.wait_for_answers(50)
        service.signal(signal.SIGCONT)
        seen = len(service.events)
        service.signal(signal.SIGHUP)  # answered by a supervisor that has taken its first look
        service.wait_for("serving", since=seen, index=0)
        assert not load.errors
        assert not service.logged("hangs")


def test_a_machine_that_was_paused_keeps_its_workers(tmp_path: Path) -> None:
    """All processes stop at once for longer than the hang limit, as in a frozen container. The time that passes is the fault itself."""
    with Supervised(tmp_path, hang_seconds=1.0).started() as service:
        before = service.serving()
        os.killpg(service.process.pid, signal.SIGSTOP)
        select.select([], [], [], 2.0)
        os.killpg(service.process.pid, signal.SIGCONT)
        assert {service.ask() for _ in range(100)} == {(pid, index) for index, pid in before.items()}
        service.signal(signal.SIGTERM)
        assert service.end() == 0
        assert not service.logged("hangs")


def test_a_second_server_does_not_share_the_port(service: Supervised, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with Supervised(tmp_path / "second").listen_on(service.port).start() as second:
        assert second.end() == 1
        assert f"cannot listen on 127.0.0.1 port {service.port}: another process does" in second.stderr()


def test_sockets_given_by_a_service_manager_are_used(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given, Supervised(tmp_path) as service:
        service.start(sys.executable, "-c", HAND_OVER, str(given.fileno()), "front", pass_fds=(given.fileno(),))
        assert service.settled().port == given.getsockname()[1]
        assert service.ask()[0] in service.serving().values()
        assert service.wait_for("serving")["names"] == ["front"]
        service.signal(signal.SIGTERM)
        assert service.end() == 0


@needs("systemd")
def test_systemd_activates_it_by_a_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Supervised(tmp_path, workers=1) as service:
        service.start("systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--fdname=http")
        service.port = port
        pid, _ = first_answer(service)
        assert service.wait_for("serving")["pid"] == pid
        service.signal(signal.SIGTERM)
        assert service.end() == 0


def first_answer(service: Supervised) -> tuple[int, int]:
    """systemd-socket-activate says on standard error when it listens; nothing else tells."""
    while True:
        try:
            return service.ask()
        except ConnectionRefusedError:
            assert service.process.poll() is None
