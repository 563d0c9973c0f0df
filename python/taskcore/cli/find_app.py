"""Finds the app that `-A` names, by Celery's rules.

`proj:attr` names a module and an attribute. `proj` alone is searched: attribute `app`, attribute
`celery`, any other app among the module's attributes, and for a package its submodules `celery`,
`app` and `tasks` in the same way. `proj.attr` is taken as an attribute when there is no such
module.

A module that is not there is a mistake of the command line and answered in one sentence; an error
raised while a module is imported is a mistake in that module, and keeps its traceback. The two are
told apart by the name of what was missing: only the module asked for, or a parent of it, counts as
not there.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from taskcore.app import Taskcore

ATTRIBUTES = ("app", "celery")
SUBMODULES = ("celery", "app", "tasks")


class AppNotFound(click.UsageError):
    """Nothing usable where `-A` points."""


def find_app(spec: str) -> "Taskcore":
    """The app that `spec` names, `module`, `module:attribute` or `module.attribute`.

    Raises:
        AppNotFound: there is no such module, or no app in it.
        Exception: whatever importing the module raises.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    name, _, attribute = spec.partition(":")
    if not name or spec.endswith(":") or ":" in attribute:
        raise AppNotFound(
            f"`{spec}` is not an app: expected `module` or `module:attribute`, as in `-A proj.queue:app`"
        )
    if os.sep in name or name.startswith(".") or name.endswith(".py"):
        stem = os.path.splitext(os.path.basename(name))[0].lstrip(".") or "proj"
        raise AppNotFound(
            f"`{name}` is not the name of a module: expected dots and no path, as in `-A {stem}`, in the folder that holds it"
        )
    module = import_if_there(name)
    if attribute:
        if module is None:
            raise not_there(name)
        return named(module, attribute)
    if module is not None:
        app = search(module)
        if app is None:
            raise AppNotFound(
                f"no app in `{name}`: expected a Taskcore instance, best in an attribute named `app`; "
                f"name it yourself with `-A {name}:attribute`"
            )
        return app
    parent, _, attribute = name.rpartition(".")
    holder = import_if_there(parent) if parent else None
    if holder is None or not hasattr(holder, attribute):
        raise not_there(name)
    return named(holder, attribute)


def import_if_there(name: str) -> ModuleType | None:
    """Imports `name`; None when it, or a parent of it, does not exist."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and (
            name == missing.name or name.startswith(f"{missing.name}.")
        ):
            return None
        raise


def search(module: ModuleType) -> "Taskcore | None":
    """An app among the attributes of `module`, or of the usual submodules of a package."""
    for attribute in ATTRIBUTES:
        if is_app(getattr(module, attribute, None)):
            return as_app(getattr(module, attribute))
    for value in vars(module).values():
        if is_app(value):
            return as_app(value)
    if hasattr(module, "__path__"):
        for submodule in SUBMODULES:
            inner = import_if_there(f"{module.__name__}.{submodule}")
            app = search(inner) if inner is not None else None
            if app is not None:
                return app
    return None


def named(module: ModuleType, attribute: str) -> "Taskcore":
    """The app in one attribute, which may be a dotted path or itself a module to search."""
    value: object = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise AppNotFound(
                f"`{module.__name__}` has no attribute `{attribute}`{apps_in(module)}"
            )
        value = getattr(value, part)
    if isinstance(value, ModuleType):
        app = search(value)
        if app is not None:
            return app
    if not is_app(value):
        raise AppNotFound(
            f"`{module.__name__}:{attribute}` is not an app: expected a Taskcore instance, got {value!r}"
        )
    return as_app(value)


def apps_in(module: ModuleType) -> str:
    """What could have been meant instead, as the end of a sentence."""
    names = [f"`{module.__name__}:{name}`" for name, value in vars(module).items() if is_app(value)]
    return f"; it has the app {' and '.join(names)}" if names else "; it has no app at all"


def not_there(name: str) -> AppNotFound:
    """Says which module is missing and where it was looked for."""
    return AppNotFound(
        f"no module named `{name}` in `{os.getcwd()}` or on the import path: "
        "check the spelling, or change into the folder that holds it"
    )


def is_app(value: object) -> bool:
    """Whether `value` is an app."""
    from taskcore.app import Taskcore

    return isinstance(value, Taskcore)


def as_app(value: object) -> "Taskcore":
    """`value`, which is an app."""
    from taskcore.app import Taskcore

    assert isinstance(value, Taskcore)
    return value
