"""Modules that a running worker imports, or imports anew, for `pool_restart`.

The worker does so first, so that an error is the answer to whoever asked and nothing is restarted;
then each child does before its first task. The zygote, which forks the children, imports nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from typing import Any


def bring_in(app: Any, modules: Iterable[tuple[str, bool]]) -> None:
    """Imports modules.

    Args:
        app: the app whose tasks are in them.
        modules: the name of each, and whether one that was imported before is imported anew, which
            replaces its tasks.

    Raises:
        ValueError: a module that makes the app itself cannot be imported anew.
    """
    for name, again in modules:
        module = sys.modules.get(name)
        if module is None:
            importlib.import_module(name)
        elif again:
            _anew(app, module)


def _anew(app: Any, module: Any) -> None:
    names = dict(vars(module))
    apps = {name for name, value in names.items() if value is app}
    importlib.reload(module)
    if any(vars(module)[name] is not app for name in apps):
        vars(module).update(names)
        app.set_current()
        raise ValueError(
            f"module `{module.__name__}` makes the app, expected one with tasks alone: restart the worker"
        )
