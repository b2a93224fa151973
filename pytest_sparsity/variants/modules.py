"""Which modules a source imports, where they are, and whether they are installed or the user's."""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.util
import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = f"{sys.implementation.cache_tag}.{sys.version_info.micro}"
"""What brought a module of the standard library."""


def absolute(name: str, level: int, package: str | None) -> str:
    """Return what `from ..name import` means in a package."""
    if not level:
        return name
    try:
        return importlib.util.resolve_name("." * level + name, package)
    except ImportError:  # a relative import outside any package, which fails when it runs, too
        return name


def imports(source: bytes, package: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Return the modules that a source imports anywhere, and the names it takes from each."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            name = absolute(node.module or "", node.level, package)
            yield name, tuple(alias.name for alias in node.names)


def find(name: str) -> importlib.machinery.ModuleSpec | None:
    """Return where a module is, without importing it or its packages."""
    spec: importlib.machinery.ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
    if spec is not None:
        return spec
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # in sys.modules without a spec, such as __main__
        return None
    for place in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        inner = ".".join([top, *rest[: place + 1]])
        locations = list(spec.submodule_search_locations)
        spec = importlib.machinery.PathFinder.find_spec(inner, locations)
    return spec


@functools.cache
def installed(top: str) -> str | None:
    """Return name and version of what brought a top-level module, None for the user's own."""
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return PYTHON
    from importlib import metadata

    spec = find(top)
    origin = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
    if not origin or not _in_site_packages(Path(origin)):
        return None
    try:
        return f"{top} {metadata.version(top)}"
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(top)
    if not names:
        return None
    return " ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names)))


def _in_site_packages(path: Path) -> bool:
    paths = sysconfig.get_paths()
    folders = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return any(path.is_relative_to(folder) for folder in (*folders, site.getusersitepackages()))
