"""Style of the compiled modules that no linter checks: headers, stubs, exception specifications.

A C function without a specification either swallows exceptions or costs a check at every call, and which of the two depends on its type;
so each says it. Functions that return Python objects need none: NULL is their sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.sources import files, shown

Rule = Callable[[str], Iterator[str]]

# [cdef|cpdef] [inline] [TYPE] NAME ( … ) [specification] [nogil] [:]
HEAD = re.compile(r"^\s*(?:cdef|cpdef)\s+(?!class\b|struct\b|enum\b|union\b|extern\b|packed\b)(?P<rest>[^=()]*\()")
NAME = re.compile(r"(?:(?P<type>.*[\s*&])\s*)?(?P<name>\w+)\s*\($")
CLASS = re.compile(r"^\s*cdef\s+class\s+(\w+)", re.MULTILINE)
PYTHON_TYPES = {"object", "bytes", "bytearray", "str", "list", "tuple", "dict", "set", "frozenset", "type", "memoryview"}
SPECIFIED = re.compile(r"\)\s*(?:noexcept|except\b)")
BARE_EXCEPT = re.compile(r"^\s*except\s*:")
HEADER = re.compile(r"^#\s*(?:cython|distutils)\s*:", re.IGNORECASE)


def modules() -> list[Path]:
    return files("ext", ".pyx", ".pxd")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def classes(texts: Iterable[str]) -> set[str]:
    """Names of extension types."""
    found: set[str] = set()
    for text in texts:
        found.update(CLASS.findall(text))
    return found


def signatures(text: str) -> Iterator[tuple[int, str]]:
    """Line and whole signature of every C function, joined to one line; declarations of other libraries left out."""
    lines = text.splitlines()
    foreign: int | None = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip() and foreign is not None and indent <= foreign:
            foreign = None
        if re.match(r"\s*cdef\s+extern\b", line):
            foreign = indent
        if foreign is None and HEAD.match(line):
            yield number + 1, " ".join(part.strip() for part in joined(lines[number:]))


def joined(lines: list[str]) -> Iterator[str]:
    """Lines up to the one in which every bracket is closed, comments taken off."""
    depth = 0
    for line in lines:
        code = line.split("#")[0]
        yield code
        depth += code.count("(") - code.count(")")
        if depth <= 0:
            return


def without_specification(text: str, objects: set[str]) -> Iterator[str]:
    for number, signature in signatures(text):
        head = HEAD.match(signature)
        named = head and NAME.match(head["rest"].replace("inline ", "").strip())
        if named is None:
            continue
        kind = (named["type"] or "object").strip()
        if kind not in PYTHON_TYPES | objects and not SPECIFIED.search(signature):
            yield f"line {number}: {named['name']} returns {kind} and says nothing of exceptions"


def unspecified(text: str) -> Iterator[str]:
    return without_specification(text, classes([text]))


def bare_except(text: str) -> Iterator[str]:
    return (f"line {number}" for number, line in enumerate(text.splitlines(), 1) if BARE_EXCEPT.match(line))


def own_directives(text: str) -> Iterator[str]:
    return (f"line {number}" for number, line in enumerate(text.splitlines(), 1) if HEADER.match(line))


def test_every_c_function_says_what_it_does_with_exceptions() -> None:
    objects = classes(map(read, modules()))
    assert not {shown(path): found for path in modules() if (found := list(without_specification(read(path), objects)))}


@pytest.mark.parametrize("rule", [bare_except, own_directives])
def test_modules_keep_the_rule(rule: Rule) -> None:
    assert not {shown(path): found for path in modules() if (found := list(rule(read(path))))}


def test_every_module_has_a_stub() -> None:
    assert not [shown(path) for path in files("ext", ".pyx") if not path.with_suffix(".pyi").exists()]


def test_every_module_with_an_extension_type_has_a_header() -> None:
    assert not [shown(path) for path in files("ext", ".pyx") if CLASS.search(read(path)) and not path.with_suffix(".pxd").exists()]


def test_every_module_says_what_it_owns() -> None:
    assert not [shown(path) for path in modules() if not read(path).startswith('"""')]


def test_every_stub_has_a_module() -> None:
    assert not [shown(path) for path in files("ext", ".pyi") if not path.with_suffix(".pyx").exists()]


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (unspecified, "cdef int f(int x):\n    return x"),
        (unspecified, "cdef inline uint8_t* f(\n    int x,  # (a comment)\n):\n    return NULL"),
        (unspecified, "cdef class A:\n    cpdef void f(self):\n        pass"),
        (unspecified, "cdef class A:\n    cdef bint f(self) nogil"),
        (unspecified, "cdef extern from 'x.h':\n    int g(int x)\ncdef Status f():\n    return OK"),
        (bare_except, "try:\n    f()\nexcept:\n    pass"),
        (own_directives, "# cython: boundscheck=False\n"),
        (own_directives, "#cython:language_level=3\n"),
    ],
)
def test_a_planted_fault_is_seen(rule: Rule, source: str) -> None:
    assert list(rule(source))


@pytest.mark.parametrize(
    "source",
    [
        "cdef int f(int x) except -1:\n    return x",
        "cdef inline Status f(Cursor* c) noexcept nogil:\n    return OK",
        "cdef uint8_t* f(self) except NULL",
        "cdef f(x):\n    return x",
        "cdef bytes f(x):\n    return x",
        "cdef inline object f(x):\n    return x",
        "cdef class A:\n    cdef A f(self):\n        return self",
        "cdef extern from 'x.h':\n    int f(int x)",
        "cdef int x = f(1)",
        "cdef Cursor cursor = Cursor(data, size)",
        "cdef enum Status:\n    OK = (0)",
        "cpdef int f(\n    self, int x\n) except -1",
    ],
)
def test_a_sound_signature_passes(source: str) -> None:
    assert not list(unspecified(source))
