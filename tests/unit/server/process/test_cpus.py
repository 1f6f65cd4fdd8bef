"""How many workers `--workers 0` means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from veredus.server.process.cpus import usable_cpus


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def test_without_a_quota_it_is_the_affinity_mask(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == 8
    write(tmp_path, {"sys/fs/cgroup/cpu.max": "max 100000"})
    assert usable_cpus(tmp_path) == 8


@pytest.mark.parametrize(("quota", "cpus"), [("50000 100000", 1), ("150000 100000", 2), ("400000 100000", 4), ("9900000 100000", 8)])
def test_a_quota_counts_rounded_up(tmp_path: Path, quota: str, cpus: int) -> None:
    write(tmp_path, {"sys/fs/cgroup/cpu.max": quota})
    assert usable_cpus(tmp_path) == cpus


def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    groups = {
        "proc/self/cgroup": "0::/service/veredus",
        "sys/fs/cgroup/service/veredus/cpu.max": "400000 100000",
        "sys/fs/cgroup/service/cpu.max": "200000 100000",
    }
    write(tmp_path, groups)
    assert usable_cpus(tmp_path) == 2


def test_the_old_hierarchy_counts_too(tmp_path: Path) -> None:
    quota = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}
    write(tmp_path, quota)
    assert usable_cpus(tmp_path) == 3
    write(tmp_path, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"})
    assert usable_cpus(tmp_path) == 8
