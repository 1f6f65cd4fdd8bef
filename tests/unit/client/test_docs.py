"""The example of docs/client.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.server import PASSWORD, FakeServer

PAGE = Path(__file__).resolve().parents[3] / "docs" / "client.md"
ALICE, BOB = UUID(int=1), UUID(int=2)


async def test_the_example_of_the_page_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found.group(1), str(PAGE), "exec"), names)
    async with FakeServer() as server:
        await names["main"](server.url, f"{ALICE}.1:{PASSWORD}", f"{BOB}.1:{PASSWORD}", BOB)
    assert f"{ALICE} wrote good morning" in capsys.readouterr().out
