"""Build of the Cython core and the list of packages.

The top-level folders `core`, `ext`, `server` and `client` install as `veredus.core`, `veredus.ext`, … (a namespace package, so that
an installed wheel claims one name). Cython and the type checkers look for modules by path, not through setuptools' mapping, hence the
tree of links in `build/pyroot`.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent
LAYERS = ("ext", "core", "server", "client", "bench")
LINKS = Path("build/pyroot/veredus")

# One place for compiler directives: no file has a header of its own.
COMMON = {"language_level": 3, "wraparound": False, "embedsignature": True}
RELEASE = COMMON | {"boundscheck": False, "initializedcheck": False, "cdivision": True}
DEBUG = COMMON | {"boundscheck": True, "initializedcheck": True, "nonecheck": True}


def link_tree() -> None:
    LINKS.mkdir(parents=True, exist_ok=True)
    for layer in LAYERS:
        link = LINKS / layer
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(layer, LINKS), target_is_directory=True)


def extensions() -> list[Extension]:
    sources = sorted(Path("ext").glob("*.pyx"))
    if not sources and not Path(".git").exists():  # an sdist made without MANIFEST.in would build a wheel without extensions
        raise SystemExit("setup.py: the .pyx sources are missing; is MANIFEST.in complete?")
    debug = bool(os.environ.get("VEREDUS_DEBUG"))
    flags = ["-O0", "-g"] if debug else ["-O2", "-g0"]
    return cythonize(
        [Extension(f"veredus.ext.{source.stem}", [str(source)], extra_compile_args=flags) for source in sources],
        include_path=[str(LINKS.parent)],
        build_dir="build/cython-debug" if debug else "build/cython",
        compiler_directives=DEBUG if debug else RELEASE,
        quiet=True,
    )


def packages() -> dict[str, str]:
    folders = [Path(layer) for layer in LAYERS]
    folders += [found.parent for layer in LAYERS for found in Path(layer).rglob("__init__.py") if found.parent != Path(layer)]
    return {"veredus." + ".".join(folder.parts): str(folder) for folder in sorted(set(folders))}


os.chdir(ROOT)
link_tree()
setup(ext_modules=extensions(), packages=list(packages()), package_dir=packages())
