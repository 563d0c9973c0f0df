"""Imports the modules in which tasks are defined: those that are named, and those that are
discovered.

A module that is named must exist. One that is discovered may be missing, but an error inside of it
is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from taskcore import signals
from taskcore.config.conf import uses_django
from taskcore.exceptions import ImproperlyConfigured, TaskcoreWarning
from taskcore.utils import warn


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
        for package in _names(packages):
            _import_if_there(package, related)


def _names(packages: Any) -> Iterable[str]:
    names = packages() if callable(packages) else packages
    if not names:
        names = _django_applications()
        if names is None:
            text = (
                "autodiscover_tasks() without packages finds no tasks where Django is not configured: name the packages, "
                "or set DJANGO_SETTINGS_MODULE"
            )
            warn(text, TaskcoreWarning)
            return ()
    return [names] if isinstance(names, str) else names


def _django_applications() -> list[str] | None:
    """The packages in INSTALLED_APPS, after Django was set up; None in a program that does not
    configure Django."""
    if not uses_django():
        return None
    import_module("django").setup()
    configs = import_module("django.apps").apps.get_app_configs()
    return [config.name for config in configs]


def _import_if_there(package: str, related: str | None) -> None:
    from importlib.util import find_spec

    try:
        import_module(package)
    except ModuleNotFoundError as exc:
        outer, _, last = package.rpartition(".")
        if exc.name != package or not outer:
            raise
        # INSTALLED_APPS may name a class, which says of which package it is.
        cls = getattr(import_module(outer), last, None)
        if cls is None:
            raise
        package = getattr(cls, "name", None) or outer
    name = f"{package}.{related}" if related else package
    try:
        there = find_spec(name) is not None
    except ModuleNotFoundError:
        # `package` is a module without submodules.
        there = False
    if there:
        import_module(name)
