"""Reads the repository's own sources for the tests that judge them. Knows files, functions and imports; holds no rule itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("ext", "core", "server", "client", "bench")
CYTHON_FUNCTION = re.compile(r"^(?P<indent> *)(?:async def|def|cpdef|cdef(?! class))\b[^=]*?(?P<name>\w+)\s*\(")
CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+(?P<origin>[\w.]+)\s+c?import\b|c?import\s+(?P<module>[\w.]+))")


class Function(NamedTuple):
    """A function as it stands in a file; lines counted from `def` to its end."""

    name: str
    line: int
    length: int


class Import(NamedTuple):
    """A module named by an import or cimport, made absolute."""

    module: str
    line: int


def files(folder: str, *suffixes: str) -> list[Path]:
    """Files below `folder`, generated ones left out."""
    found = (path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes and path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def product(*suffixes: str) -> list[Path]:
    return [path for layer in LAYERS for path in files(layer, *suffixes)]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def module_of(path: Path) -> str:
    """veredus.core.messaging.mailbox for core/messaging/mailbox.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("veredus", *parts)).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(path: Path) -> list[Function]:
    if path.suffix == ".py":
        return [
            Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
    return list(cython_functions(path.read_text(encoding="utf-8")))


def cython_functions(text: str) -> Iterator[Function]:
    """By indentation: a function ends with the last line that is indented deeper than its head."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        head = CYTHON_FUNCTION.match(line)
        if head is None:
            continue
        opening = next((at for at in range(number, len(lines)) if lines[at].rstrip().endswith(":")), number)
        last = opening
        for at in range(opening + 1, len(lines)):
            if lines[at].strip() and len(lines[at]) - len(lines[at].lstrip()) <= len(head["indent"]):
                break
            if lines[at].strip():
                last = at
        yield Function(head["name"], number + 1, last - number + 1)


def imports(path: Path) -> list[Import]:
    """Every import of a file, `if TYPE_CHECKING` included: types are dependencies too."""
    if path.suffix in {".pyx", ".pxd"}:
        return list(cython_imports(path))
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    found: list[Import] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            found += [Import(f"{origin}.{alias.name}", node.lineno) for alias in node.names]
    return found


def cython_imports(path: Path) -> Iterator[Import]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if found := CYTHON_IMPORT.match(line):
            module = found["origin"] or found["module"]
            if module.startswith("."):
                module = f"veredus.ext.{module.lstrip('.')}"
            yield Import(module, number)
