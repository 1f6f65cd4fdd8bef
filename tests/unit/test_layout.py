"""How large things may get, and what may not stand in product code. Each rule is a function that is also shown a planted fault."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

from tests.sources import ROOT, Function, cython_functions, files, functions, product, shown, tree

FILE_LINES = {".py": 400, ".pyi": 400, ".pxd": 400, ".pyx": 500}
MEDIAN_FILE_LINES = 150
FUNCTION_LINES = {".py": 60, ".pyx": 120}  # a parser's state belongs in one function
NINTH_DECILE_FUNCTION_LINES = 30
PARAMETERS = 6
# The watcher is a program of its own that outlives its owner's log.
TALKS_TO_A_TERMINAL = ("server/commands/", "server/__main__.py", "server/process/watcher.py", "client/chat.py", "bench/")
# Spelt apart, so that this file may be searched as well.
LEFT_OVER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
TEXT = (".py", ".pyi", ".pyx", ".pxd", ".h", ".sql", ".lua", ".proto", ".md", ".toml", ".yaml", ".yml", ".svg")
MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"}
MUTATING = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "clear", "remove", "discard", "appendleft"}
CACHES = {"cache", "lru_cache", "cached"}

Rule = Callable[[ast.Module], Iterator[str]]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def python_and_tests() -> list[Path]:
    return product(".py") + files("tests", ".py") + [ROOT / "setup.py"]


# ---- size


def test_no_file_is_too_long() -> None:
    every = product(*FILE_LINES) + files("tests", ".py")
    assert not {shown(path): lines(path) for path in every if lines(path) > FILE_LINES[path.suffix]}


def test_most_files_are_short() -> None:
    assert median(count for path in product(".py", ".pyx") if (count := lines(path)) > 3) <= MEDIAN_FILE_LINES


def test_no_function_is_too_long() -> None:
    every = product(".py", ".pyx") + files("tests", ".py")
    too_long = {
        f"{shown(path)}:{function.line} {function.name}": function.length
        for path in every
        for function in functions(path)
        if function.length > FUNCTION_LINES[path.suffix]
    }
    assert not too_long


def test_most_functions_are_short() -> None:
    lengths = [function.length for path in product(".py", ".pyx") for function in functions(path)]
    assert quantiles(lengths, n=10)[-1] <= NINTH_DECILE_FUNCTION_LINES


def test_the_length_of_a_cython_function_is_told_by_its_indentation() -> None:
    text = """cdef int a(
    int x,
) except -1:
    if x:
        return 1

    return 2

cdef class B(A):
    cdef int y
    def c(self):
        pass
"""
    assert list(cython_functions(text)) == [Function("a", 1, 7), Function("c", 11, 2)]


# ---- rules on Python code


def too_many_parameters(module: ast.Module) -> Iterator[str]:
    """A constructor with more than six needs a type or a configuration object."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name in {"__init__", "__new__"}:
            taken = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs) - 1
            if taken > PARAMETERS:
                yield f"line {node.lineno}: {taken} parameters"


def called(node: ast.expr | None) -> str:
    """The last name of what a call calls, or of a decorator; "" for anything else."""
    target = node.func if isinstance(node, ast.Call) else node
    if isinstance(target, ast.Attribute):
        return target.attr
    return target.id if isinstance(target, ast.Name) else ""


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    return isinstance(value, ast.Call) and called(value) in MUTABLE_CALLS


def module_containers(module: ast.Module) -> Iterator[tuple[str, int]]:
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_mutable(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((target.id, node.lineno) for target in targets if isinstance(target, ast.Name) and target.id != "__all__")


def changed_names(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Names whose contents some statement changes: `NAME[x] = …`, `del NAME[x]`, `NAME.append(…)`."""
    for node in ast.walk(module):
        owner: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            owner = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING:
            owner = node.func.value
        if isinstance(owner, ast.Name):
            yield owner.id, owner.lineno


def module_state(module: ast.Module) -> Iterator[str]:
    """State that outlives its owner: a container in lower case or one that is changed, `global`, a cache on a function."""
    containers = dict(module_containers(module))
    yield from (f"line {line}: {name} is mutable" for name, line in containers.items() if not name.lstrip("_").isupper())
    yield from (f"line {line}: {name} is changed" for name, line in changed_names(module) if name in containers)
    for node in ast.walk(module):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (f"line {node.lineno}: @{called(item)}" for item in node.decorator_list if called(item) in CACHES)


def prints(module: ast.Module) -> Iterator[str]:
    """What a file does when it is run as a program is its own business."""
    statements = [node for node in module.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'")]
    for node in (inner for statement in statements for inner in ast.walk(statement)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"line {node.lineno}: print"


def reads_a_clock(module: ast.Module) -> Iterator[str]:
    """`time`, and the methods of `datetime` and of event loops that tell it. A clock is an argument (core/clock.py)."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import) and any(alias.name == "time" for alias in node.names):
            yield f"line {node.lineno}: import time"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield f"line {node.lineno}: from time import …"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if (
                node.func.attr in {"now", "utcnow", "today"}
                and isinstance(owner, ast.Name | ast.Attribute)
                and called(owner) in {"datetime", "date"}
            ):
                yield f"line {node.lineno}: {called(owner)}.{node.func.attr}"
            elif node.func.attr == "time" and "loop" in ast.unparse(owner):
                yield f"line {node.lineno}: the loop's clock"


def undocumented(module: ast.Module) -> Iterator[str]:
    if module.body and ast.get_docstring(module) is None:
        yield "no docstring that says what it owns"


def offences(rule: Rule, paths: list[Path]) -> dict[str, list[str]]:
    return {shown(path): found for path in paths if (found := list(rule(tree(path))))}


def test_constructors_take_few_parameters() -> None:
    assert not offences(too_many_parameters, product(".py"))


def test_no_module_holds_mutable_state() -> None:
    assert not offences(module_state, product(".py"))


def test_only_commands_print() -> None:
    quiet = [path for path in product(".py") if not shown(path).startswith(TALKS_TO_A_TERMINAL)]
    assert not offences(prints, quiet)


def test_the_core_reads_no_clock_but_the_one_it_was_given() -> None:
    assert not offences(reads_a_clock, [path for path in files("core", ".py") if shown(path) != "core/clock.py"])


def test_compiled_modules_read_no_clock() -> None:
    clocks = re.compile(r"\bc?import\s+time\b|\bfrom\s+(?:time|posix\.time|libc\.time)\s+c?import\b|\bclock_gettime\b")
    assert not [shown(path) for path in files("ext", ".pyx", ".pxd") if clocks.search(path.read_text(encoding="utf-8"))]


def test_every_module_says_what_it_owns() -> None:
    assert not offences(undocumented, python_and_tests())


def test_nothing_is_left_for_later() -> None:
    everything = [path for folder in (".", ".ci") for path in (ROOT / folder).glob("*") if path.is_file() and path.suffix in {*TEXT, ""}]
    everything += product(*TEXT) + [path for folder in ("tests", "docs", "proto", "deploy") for path in files(folder, *TEXT)]
    found = [
        f"{shown(path)}:{number}"
        for path in everything
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if LEFT_OVER.search(line)
    ]
    assert not found


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (too_many_parameters, "class A:\n    def __init__(self, a, b, c, d, e, f, g): ..."),
        (too_many_parameters, "class A:\n    def __init__(self, a, b, c, *, d, e, f, g): ..."),
        (module_state, "sessions = {}"),
        (module_state, "_sessions: dict[str, int] = dict()"),
        (module_state, "from collections import deque\nqueue = deque()"),
        (module_state, "TABLE = {}\ndef learn(key):\n    TABLE[key] = 1"),
        (module_state, "NAMES = []\ndef learn(name):\n    NAMES.append(name)"),
        (module_state, "count = 0\ndef tick():\n    global count\n    count += 1"),
        (module_state, "import functools\n@functools.lru_cache(maxsize=8)\ndef load(): ..."),
        (prints, "def f():\n    print('x')"),
        (reads_a_clock, "import time"),
        (reads_a_clock, "from time import monotonic"),
        (reads_a_clock, "from datetime import datetime\nx = datetime.now()"),
        (reads_a_clock, "import datetime\nx = datetime.datetime.now(datetime.UTC)"),
        (reads_a_clock, "import asyncio\nx = asyncio.get_running_loop().time()"),
        (undocumented, "import os"),
    ],
)
def test_a_planted_fault_is_seen(rule: Rule, source: str) -> None:
    assert list(rule(ast.parse(source)))


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (too_many_parameters, "class A:\n    def __init__(self, a, b, c, d, e, f): ..."),
        (module_state, "TABLE = {1: 2}\n__all__ = ['f']\ndef f():\n    names = []\n    names.append(TABLE[1])"),
        (reads_a_clock, "def f(clock, message):\n    return clock.now_ms(), message.time"),
        (prints, "if __name__ == '__main__':\n    print('x')"),
        (undocumented, '"""Owns nothing."""'),
        (undocumented, ""),
    ],
)
def test_sound_code_passes(rule: Rule, source: str) -> None:
    assert not list(rule(ast.parse(source)))
