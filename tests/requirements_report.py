"""Which requirement rows are proven, read from the tests' `requirement` markers. Collects the tests, runs none.

`make requirements` prints the report. `docs/requirements.md` is the list of rows.
"""

from __future__ import annotations

import io
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

TABLE = Path(__file__).resolve().parent.parent / "docs" / "requirements.md"
ROW = re.compile(r"^\| ([A-Z]+-\d+) \| (.+) \|$")


def areas(text: str) -> dict[str, dict[str, str]]:
    """The table by heading: id → title. Raises ValueError when an id stands twice."""
    found: dict[str, dict[str, str]] = {}
    seen: set[str] = set()
    heading = ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif row := ROW.match(line):
            if row[1] in seen:
                raise ValueError(f"{row[1]} stands twice in {TABLE.name}")
            seen.add(row[1])
            found.setdefault(heading, {})[row[1]] = row[2]
    return found


def proofs(items: Iterable[pytest.Item]) -> dict[str, list[str]]:
    """Requirement id → the tests that name it, parametrised ones once."""
    found: dict[str, list[str]] = defaultdict(list)
    for item in items:
        test = item.nodeid.partition("[")[0]
        for marker in item.iter_markers("requirement"):
            for name in marker.args:
                if test not in found[name]:
                    found[name].append(test)
    return dict(found)


def report(table: dict[str, dict[str, str]], proven: dict[str, list[str]]) -> Iterable[str]:
    """The report's lines: proven rows with their tests, then the others by area."""
    for heading, rows in table.items():
        here = [name for name in rows if name in proven]
        yield f"{heading}: {len(here)} of {len(rows)} proven"
        for name in here:
            yield f"  {name}  {rows[name]}"
            yield from (f"      {test}" for test in proven[name])
        if unproven := [name for name in rows if name not in proven]:
            yield textwrap.fill(", ".join(unproven), 120, initial_indent="  without a proof: ", subsequent_indent="    ")
        yield ""
    every = [name for rows in table.values() for name in rows]
    tests = {test for named in proven.values() for test in named}
    yield f"{sum(name in proven for name in every)} of {len(every)} rows proven by {len(tests)} tests"


class Collector:
    """A pytest plugin that keeps what was collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = list(session.items)


def main() -> int:
    collector = Collector()
    with redirect_stdout(io.StringIO()) as said:
        status = pytest.main(["--collect-only", "--quiet"], plugins=[collector])
    if status != pytest.ExitCode.OK:
        print(said.getvalue(), "The tests cannot be collected.", sep="\n", file=sys.stderr)
        return int(status)
    table = areas(TABLE.read_text(encoding="utf-8"))
    proven = proofs(collector.items)
    print(*report(table, proven), sep="\n")
    unknown = sorted(set(proven) - {name for rows in table.values() for name in rows})
    if unknown:
        print(f"markers name rows that do not exist: {', '.join(unknown)}", file=sys.stderr)
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
