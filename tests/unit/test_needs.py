"""Tests of `tests/needs.py`, run as a small test session of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import needs
from tests.sources import ROOT

NOTHING = needs.Need(lambda: False, "nothing")
PRESENT = needs.Need(lambda: True, "never-shown")


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setitem(needs.NEEDS, "nothing", NOTHING)
    monkeypatch.setitem(needs.NEEDS, "present", PRESENT)
    monkeypatch.delenv(needs.REQUIRE_ALL, raising=False)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p tests.needs\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def with_test(session: pytest.Pytester, name: str) -> pytest.RunResult:
    session.makepyfile(f"from tests.needs import needs\n@needs({name!r})\ndef test_something():\n    pass\n")
    return session.runpytest_inprocess("-rs")


def test_a_missing_need_skips_and_names_the_package(session: pytest.Pytester) -> None:
    result = with_test(session, "nothing")
    result.assert_outcomes(skipped=1)
    assert "needs nothing (Debian package nothing)" in result.stdout.str()


def test_a_missing_need_fails_when_everything_is_required(session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(needs.REQUIRE_ALL, "1")
    result = with_test(session, "nothing")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Debian package nothing" in result.stdout.str()


def test_what_is_here_is_used(session: pytest.Pytester) -> None:
    with_test(session, "present").assert_outcomes(passed=1)


def test_an_unknown_need_stops_the_run(session: pytest.Pytester) -> None:
    result = with_test(session, "something nobody has heard of")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(("version", "enough"), [("6.2.14", False), ("7.0.15", True), ("10.1.0", True)])
def test_the_version_of_redis_counts(version: str, enough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = tmp_path / "redis-server"
    server.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=00000000:0 malloc=libc bits=64'\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert needs.redis_of_at_least(7) is enough


def test_ci_installs_whatever_tests_need(request: pytest.FixtureRequest) -> None:
    found = re.search(r"^PACKAGES=\((.*?)\)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    wanted = {needs.NEEDS[name].package for item in request.session.items for name in needs.named(item)} - {""}
    assert wanted <= set(found[1].split())
