"""Uses an installed wheel from another directory: `make test-installed` runs this with the installed Python, isolated from the checkout.

Imports every module, so that nothing the wheel lacks goes unnoticed, and takes one message through the compiled codec.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys
from pathlib import Path
from uuid import uuid4

CONTRACT_FILES = {".pyi", ".typed"}
NOT_SHIPPED = {".pyx", ".c"}


def modules() -> list[str]:
    import veredus

    found = [f"veredus.{name}" for name in ("ext", "core", "server", "client")]
    return found + [module.name for module in pkgutil.walk_packages(veredus.__path__, "veredus.")]


def check_imports() -> int:
    names = sorted(set(modules()))
    for name in names:
        if name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        assert module.__file__ is not None, f"{name} has no file"
        assert Path(module.__file__).is_relative_to(sys.prefix), f"{name} came from {module.__file__}, not from the wheel"
    return len(names)


def check_files() -> None:
    shipped = {path.suffix for path in importlib.metadata.files("veredus") or ()}
    assert shipped >= CONTRACT_FILES, f"the wheel lacks {CONTRACT_FILES - shipped}"
    assert not shipped & NOT_SHIPPED, f"the wheel holds {shipped & NOT_SHIPPED}"


def check_codec() -> None:
    from veredus.ext.envelope import Send, parse_client_frame

    send = Send.build(uuid4().bytes, 1, uuid4().bytes, uuid4().bytes, 1, 1, True, False, [(1, 7, b"content")], 1024, 16)
    assert send.code == 0
    assert b"content" in send.envelopes[0]
    assert parse_client_frame(b"\xff", uuid4().bytes, 1, 1024, 16).malformed


def main() -> None:
    imported = check_imports()
    check_files()
    check_codec()
    print(f"installed wheel: {imported} modules, files and codec as they should be")


if __name__ == "__main__":
    main()
