"""How many CPUs this process may use, for `--workers 0`. Knows affinity and control groups; decides nothing else."""

from __future__ import annotations

import math
import os
from pathlib import Path

SYSTEM = Path("/")


def usable_cpus(root: Path = SYSTEM) -> int:
    """At least 1: the CPUs of the affinity mask, fewer when a control group's quota is smaller (a container with half a CPU has one)."""
    quotas = _quotas(root)
    return max(1, min([len(os.sched_getaffinity(0)), *(math.ceil(quota) for quota in quotas)]))


def _quotas(root: Path) -> list[float]:
    found = [_version_1(root / "sys/fs/cgroup/cpu")]
    mount = root / "sys/fs/cgroup"
    group = mount / _own_group(root / "proc/self/cgroup")
    found += [_version_2(folder / "cpu.max") for folder in (group, *group.parents) if folder.is_relative_to(mount)]
    return [quota for quota in found if quota is not None]


def _own_group(listing: Path) -> str:
    for line in _read(listing).splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::").lstrip("/")
    return ""


def _version_2(file: Path) -> float | None:
    quota, _, period = _read(file).partition(" ")
    return int(quota) / int(period) if quota.isdigit() else None  # "max 100000": none


def _version_1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None  # "-1": none


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:  # no such hierarchy, or hidden from us
        return ""
