"""Reads settings of any msgspec struct from YAML and from variables. Knows nothing of what they mean.

Every fault is a `StartFailed` line that never shows a value which may be secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from veredus.server.failure import StartFailed
from veredus.server.secret import Secret

PREFIX = "VEREDUS_"
USUAL_NAMES: dict[str, tuple[str, ...]] = {"DATABASE_URL": ("database_url",), "REDIS_URL": ("redis_url",)}
# Not settings of a server: `veredus chat`'s credentials, switches of the build and the tests, and what Kubernetes gives every pod beside a
# service called veredus.
NOT_OURS = re.compile(r"VEREDUS_(AS|DEBUG|REQUIRE_ALL|SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)$")

Struct = TypeVar("Struct", bound=msgspec.Struct)
KeyPath = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """YAML whose keys are words, none given twice (of two PyYAML would take the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "every key must be a word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file has none."""
    try:
        given = yaml.load(file.read_bytes(), _Loader)
    except OSError as error:
        raise StartFailed(f"{file}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise StartFailed(f"{file}: {line}not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise StartFailed(f"{file}: not valid YAML") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise StartFailed(f"{file}: must be a mapping of settings to values")
    return given


def variables(kind: type[msgspec.Struct], environment: Mapping[str, str]) -> Iterator[tuple[str, KeyPath, Any]]:
    """(variable, path of the setting, value of the right type) of every variable that sets something."""
    known = _names(kind)
    for name in sorted(environment):
        path = USUAL_NAMES.get(name)
        if path is None:
            if not name.startswith(PREFIX) or NOT_OURS.match(name):
                continue
            path = known.get(name)
        if path is None:
            raise StartFailed(f"environment: {name}: there is no such setting")
        yield name, path, _value(kind, path, environment[name], f"environment: {name}")


def put(given: dict[str, Any], path: KeyPath, value: Any, source: str) -> None:
    """Set one value inside nested mappings."""
    for key in path[:-1]:
        given = given.setdefault(key, {})
        if not isinstance(given, dict):
            raise StartFailed(f"{source}: {key} in the file is not a mapping")
    given[path[-1]] = value


def convert(given: dict[str, Any], kind: type[Struct], source: str) -> Struct:
    """The struct of these values."""
    try:
        return msgspec.convert(given, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise StartFailed(f"{source}: {_explain(str(error))}") from None


def _names(kind: type[msgspec.Struct], path: KeyPath = ()) -> dict[str, KeyPath]:
    """Every variable's name and the setting it stands for."""
    found: dict[str, KeyPath] = {}
    for field in msgspec.structs.fields(kind):
        here = (*path, field.name)
        inner = _struct_in(field.type)
        found |= _names(inner, here) if inner else {PREFIX + "_".join(here).upper(): here}
    return found


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    choices = getattr(kind, "__args__", (kind,))
    return next((each for each in choices if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)


def _value(kind: type[msgspec.Struct], path: KeyPath, text: str, source: str) -> Any:
    """A variable's text as the type of its setting."""
    leaf: Any = kind
    for key in path:
        leaf = next(field.type for field in msgspec.structs.fields(_struct_in(leaf) or leaf) if field.name == key)
    if getattr(leaf, "__origin__", None) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return msgspec.convert(text, leaf, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise StartFailed(f"{source}: {_explain(str(error))}") from None


def _decode(kind: type, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, str) or not value:
        raise TypeError("Expected `str`")
    if kind is Secret:
        return Secret(value)
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)


def _explain(message: str) -> str:
    """msgspec's message with the key first: "Expected `int`, got `str` - at `$.listen.port`" → "listen.port: expected int, got str"."""
    match = re.fullmatch(r"(?P<what>.*?)(?: - at `\$?\.?(?P<where>.*?)`)?", message, re.DOTALL)
    assert match
    what, where = match["what"].replace("`", ""), match["where"] or ""
    named = re.fullmatch(r"Object (contains unknown|missing required) field (.*)", what)
    if named:
        where = ".".join(filter(None, (where, named[2])))
        what = "there is no such setting" if "unknown" in named[1] else "is not set"
    what = what[:1].lower() + what[1:]
    return f"{where}: {what}" if where else what
