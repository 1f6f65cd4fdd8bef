"""`python -m veredus.bench.report`: runs every case of the report some times, alternating, and writes results, tables and drawing.

Owns the list of cases. Drives the command as a person would, so that what it measures is what ships.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import msgspec

from veredus.bench.load import profiling
from veredus.bench.load.result import Result
from veredus.bench.report.render import Case, drawing, report
from veredus.bench.report.stages import table

LOADTEST = (sys.executable, "-m", "veredus.server", "loadtest")
CASES = (
    Case("identified", "≥ 50,000/s, ≤ 20 µs"),
    Case("sealed", "≥ 55,000/s, ≤ 18 µs"),
    Case("identified --rate 5000", "p99 ≤ 10 ms"),
    Case("identified --rate 500", "p50 ≤ 1 ms, p99 ≤ 4 ms, ≤ 250 µs"),
    Case("drain --connections 500 --stored 400", "≥ 100,000/s"),
    Case("connect --connections 2000", "≥ 3,000/s per core"),
    Case("idle --connections 3000", "≤ 10 KB"),
    Case("idle --connections 1000 --tls", "≤ 40 KB"),
)


def run(case: Case, seconds: float, file: Path, *more: str) -> Result:
    """One run. Raises `CalledProcessError` when it was not sound: there is no report of such runs."""
    command = [*LOADTEST, *case.arguments.split(), "--embedded", "--seconds", str(seconds), "--json", str(file), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return msgspec.json.decode(file.read_bytes(), type=Result)


def stages(folder: Path, seconds: float) -> str:
    """The worker's stages, from a run of their own: a profiler slows what it watches. Empty without a profiler."""
    if profiling.found() is None:
        print("py-spy is not installed: no stages", file=sys.stderr)
        return ""
    folded = folder / "identified.folded"
    result = run(CASES[0], seconds, folder / "results" / "identified-profiled.json", "--profile", str(folded))
    page = table(folded.read_text(encoding="utf-8"), result)
    folded.unlink()
    return page


def main() -> None:
    parser = argparse.ArgumentParser("python -m veredus.bench.report", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="measured in each run")
    parser.add_argument("--out", type=Path, default=Path("bench/report"))
    given = parser.parse_args()
    results = given.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    measured: dict[Case, list[Result]] = {case: [] for case in CASES}
    for number in range(1, given.rounds + 1):
        for case, done in measured.items():
            print(f"run {number} of {given.rounds}: {case.arguments}", file=sys.stderr)
            name = case.arguments.replace(" --", "-").replace(" ", "")
            done.append(run(case, given.seconds, results / f"{name}.{number}.json"))
    by_stage = stages(given.out, given.seconds)
    (given.out / "report.md").write_text(report(measured, by_stage), encoding="utf-8")
    (given.out / "summary.svg").write_text(drawing(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
