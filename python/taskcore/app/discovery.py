"""Imports the modules in which tasks are defined: those that are named, and those that are discovered.

A module that is named must exist. One that is discovered may be missing, but an error inside of it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from taskcore import signals
from taskcore.exceptions import ImproperlyConfigured


def import_all(named: Iterable[str], discovered: Iterable[tuple[Any, str | None]]) -> None:
    """Imports everything once; Python itself remembers what was imported.

    Raises:
        ImproperlyConfigured: a module in `imports` or `include` does not exist.
    """
    signals.import_modules.send(None)
    for name in dict.fromkeys(named):
        try:
            import_module(name)
        except ModuleNotFoundError as exc:
            if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
                raise ImproperlyConfigured(
                    f"no module `{name}`, which `imports` or `include` names: check the name and the import path"
                ) from exc
            raise
    for packages, related in discovered:
        found = (packages() if callable(packages) else packages) or ()
        for package in [found] if isinstance(found, str) else found:
            _import_if_there(package, related)


def _import_if_there(package: str, related: str | None) -> None:
    from importlib.util import find_spec

    import_module(package)
    name = f"{package}.{related}" if related else package
    try:
        there = find_spec(name) is not None
    except ModuleNotFoundError:
        # `package` is a module without submodules.
        there = False
    if there:
        import_module(name)
