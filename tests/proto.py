"""The official protobuf runtime on our own `.proto` files: compiled when first asked for, into a folder that goes away with the process.

The generated modules import each other as `veredus.v1.*`, a package that exists in `sys.modules` only.
"""

from __future__ import annotations

import atexit
import importlib.resources
import importlib.util
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf.internal import api_implementation
from grpc_tools import protoc  # type: ignore[import-untyped]

SOURCES = Path(__file__).resolve().parent.parent / "proto"


@cache
def _compiled() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="veredus-proto-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    include = importlib.resources.files("grpc_tools") / "_proto"
    names = [str(path.relative_to(SOURCES)) for path in sorted(SOURCES.rglob("*.proto"))]
    if protoc.main(["protoc", f"-I{SOURCES}", f"-I{include}", f"--python_out={folder}", *names]) != 0:
        raise RuntimeError("protoc refused the .proto files")
    return folder


def _load(name: str) -> ModuleType:
    """One generated module, and by its own imports those it needs."""
    full = f"veredus.v1.{name}"
    if full in sys.modules:
        return sys.modules[full]
    package = ModuleType("veredus.v1")
    package.__path__ = [str(_compiled() / "veredus" / "v1")]
    sys.modules.setdefault("veredus.v1", package)
    spec = importlib.util.spec_from_file_location(full, _compiled() / "veredus" / "v1" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module


if api_implementation.Type() != "upb":
    raise RuntimeError("the codec is proven against upb, the official runtime's parser in C")

envelope: Any = _load("envelope_pb2")
frames: Any = _load("frames_pb2")
