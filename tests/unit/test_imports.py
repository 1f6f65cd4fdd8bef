"""Which way imports may point: ext ← core ← server; clients and benchmarks stand beside the server, not on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources import ROOT, Import, imports, module_of, product, shown

FORBIDDEN = {
    "veredus.ext": ("veredus.core", "veredus.server", "veredus.client"),
    "veredus.core": ("veredus.server", "veredus.client"),
    "veredus.client": ("veredus.server",),
    "veredus.bench": ("veredus.server",),
    # They meet in core.ports alone.
    "veredus.core.messaging": ("veredus.core.identity",),
    "veredus.core.identity": ("veredus.core.messaging",),
}
# Where the server's parts are put together; everything else in the server sees its siblings through the core's ports.
ROOTS = ("__main__", "wiring", "commands")
# A WebSocket connection, in parts; nothing else in the server knows picows, of which they use what is only half public.
# The load generator is a client.
CONNECTION = {f"veredus.ext.{part}" for part in ("station", "intake", "channel", "link", "generator")}
SIBLINGS = ("process", "ws", "http", "store", "cluster", "providers", "web")


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def offences(module: str, found: list[Import]) -> list[str]:
    """What this module imports against the rules."""
    wrong = [
        f"line {imported.line}: {imported.module}"
        for package, targets in FORBIDDEN.items()
        if within(module, package)
        for imported in found
        if any(within(imported.module, target) for target in targets)
    ]
    parts = module.split(".")
    if parts[:2] == ["veredus", "server"] and len(parts) > 2 and parts[2] not in ROOTS:
        others = [f"veredus.server.{sibling}" for sibling in (*SIBLINGS, *ROOTS) if sibling != parts[2]]
        others.append("veredus.client")  # for the commands that show the server at work
        wrong += [
            f"line {imported.line}: {imported.module}" for imported in found if any(within(imported.module, other) for other in others)
        ]
    if module not in CONNECTION and not within(module, "veredus.client") and not within(module, "veredus.bench"):
        wrong += [f"line {imported.line}: {imported.module}" for imported in found if within(imported.module, "picows")]
    return wrong


def test_imports_point_one_way() -> None:
    wrong = {shown(path): lines for path in product(".py", ".pyx", ".pxd") if (lines := offences(module_of(path), imports(path)))}
    assert not wrong


def test_no_layer_is_imported_by_its_folder_name() -> None:
    """`core` is importable when the working directory is the checkout, and would be a second copy of every class."""
    bare = ("core", "ext", "server", "client")
    wrong = [
        f"{shown(path)}:{imported.line}"
        for path in product(".py", ".pyx", ".pxd")
        for imported in imports(path)
        if imported.module.split(".")[0] in bare
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("veredus.ext.wire", "veredus.core.errors"),
        ("veredus.core.messaging.mailbox", "veredus.server.store.mailbox"),
        ("veredus.core.messaging.mailbox", "veredus.core.identity.tokens"),
        ("veredus.core.identity.tokens", "veredus.core.messaging"),
        ("veredus.client.connection", "veredus.server.ws.session"),
        ("veredus.bench.load", "veredus.server.config"),
        ("veredus.server.ws.session", "veredus.server.store.mailbox"),
        ("veredus.server.http.routes.messages", "veredus.server.wiring.Services"),
        ("veredus.server.config", "veredus.server.store"),
        ("veredus.server.ws.session", "veredus.client.connection"),
    ],
)
def test_a_forbidden_import_is_seen(module: str, imported: str) -> None:
    assert offences(module, [Import(imported, 1)])


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("veredus.core.messaging.mailbox", "veredus.core.ports.MessageStore"),
        ("veredus.server.wiring", "veredus.server.store.mailbox"),
        ("veredus.server.ws.session", "veredus.server.ws.upgrade"),
        ("veredus.server.ws.session", "veredus.server.config"),
        ("veredus.server.commands.dev", "veredus.client.connection"),
        ("veredus.client.connection", "veredus.ext.frames"),
    ],
)
def test_an_allowed_import_passes(module: str, imported: str) -> None:
    assert not offences(module, [Import(imported, 1)])


def test_only_the_connection_may_know_picows() -> None:
    cimported = [Import("picows.picows", 1)]
    assert offences("veredus.ext.outbox", cimported)
    assert offences("veredus.server.ws.upgrade", cimported)
    assert not offences("veredus.ext.channel", cimported)


def test_relative_and_typing_imports_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sources.ROOT", tmp_path)
    file = tmp_path / "core" / "messaging" / "mailbox.py"
    file.parent.mkdir(parents=True)
    file.write_text("from typing import TYPE_CHECKING\nfrom ..identity import tokens\nif TYPE_CHECKING:\n    from . import acks\n")
    assert {"veredus.core.identity.tokens", "veredus.core.messaging.acks"} <= {imported.module for imported in imports(file)}
    assert tmp_path != ROOT
