"""What is fetched is what was pinned, what is documented exists, and every target explains itself."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.sources import ROOT, shown

PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def wanted() -> Iterator[Requirement]:
    described = project()
    extras = described["project"]["optional-dependencies"].values()
    for listed in (described["build-system"]["requires"], described["project"]["dependencies"], *extras):
        yield from map(Requirement, listed)


def pins() -> dict[str, str]:
    return {found["name"]: found["version"] for line in read("requirements.lock").splitlines() if (found := PIN.match(line))}


def test_every_dependency_is_pinned_as_the_project_wants_it() -> None:
    pinned = pins()
    unmet = [str(need) for need in wanted() if not need.specifier.contains(pinned.get(canonicalize_name(need.name), "0"))]
    assert not unmet, "run `make lock`"


def test_every_pin_has_hashes_and_names_no_host() -> None:
    text = read("requirements.lock")
    assert "://" not in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    blocks = [(head, list(rest)) for head, rest in groupby(lines, key=lambda line: line.startswith(" "))]
    for (_, heads), (_, hashes) in zip(blocks[::2], blocks[1::2], strict=True):
        assert len(heads) == 1, f"{heads[0]} has no hash"
        assert all("--hash=sha256:" in line for line in hashes)


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{shown(document)}: {target}"
        for document in documents
        for target in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert not dead


def test_every_target_explains_itself() -> None:
    text = read("Makefile")
    phony = set(re.findall(r"^\.PHONY: (\S+)$", text, re.MULTILINE)) - {"FORCE"}
    explained = set(re.findall(r"^([a-z-]+):.*## .+$", text, re.MULTILINE))
    assert phony == explained
