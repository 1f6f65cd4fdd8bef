"""The list of requirements and the markers that name its rows."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.requirements_report import TABLE, areas, proofs, report


def rows() -> dict[str, str]:
    return {name: title for area in areas(TABLE.read_text(encoding="utf-8")).values() for name, title in area.items()}


def test_every_row_is_listed() -> None:
    prefixes = Counter(name.partition("-")[0] for name in rows())
    assert prefixes.pop("CON") == 51
    assert sum(prefixes.values()) == 325
    for prefix, count in prefixes.items():
        assert f"{prefix}-{count}" in rows()


def test_markers_name_rows_that_exist(request: pytest.FixtureRequest) -> None:
    unknown = {name: tests for name, tests in proofs(request.session.items).items() if name not in rows()}
    assert not unknown


def test_the_report_tells_proven_rows_from_the_others() -> None:
    table = areas("## Here\n\n| Id | Requirement |\n|---|---|\n| AB-1 | one thing |\n| AB-2 | another |\n")
    assert list(report(table, {"AB-2": ["tests/unit/test_x.py::test_y"]})) == [
        "Here: 1 of 2 proven",
        "  AB-2  another",
        "      tests/unit/test_x.py::test_y",
        "  without a proof: AB-1",
        "",
        "1 of 2 rows proven by 1 tests",
    ]


def test_a_row_cannot_stand_twice() -> None:
    with pytest.raises(ValueError, match="AB-1"):
        areas("| AB-1 | one thing |\n| AB-1 | again |\n")
