"""What `import taskcore.as_celery` does: from then on, `import celery` means taskcore.

A project that was written for Celery runs as it stands, and so do packages that import Celery
themselves. This is a map of names to the modules of taskcore, no second implementation: a module
of Celery's is an alias of taskcore's, with the few names that stand elsewhere here. What is missing
can be imported, and raises one error when it is first used. `billiard` is the standard library's
`multiprocessing` with its exceptions; `kombu` is the installed one, and without it the few names
that projects import.

`install` is called before anything imports Celery; `taskcore celery ...` does it for a project.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from taskcore import unsupported
from taskcore.contrib.celery_names import MISSING
from taskcore.exceptions import NotSupportedError

VERSION = (5, 7, 0)
"""The version of Celery whose names these are, for packages that look."""

_CURRENT = "taskcore.current"
_EXCEPTIONS = "taskcore.exceptions"

MAP: dict[str, str] = {
    "celery._state": "taskcore.app",
    "celery.app.base": "taskcore.app",
    "celery.app.trace": "taskcore.execution.tracing",
    "celery.app.events": "taskcore.app.events",
    "celery.registry": "taskcore.app.registry",
    "celery.task": "taskcore.app",
    "celery.utils.dispatch": "taskcore.signals",
    "celery.utils.dispatch.signal": "taskcore.signals",
    "celery.worker.state": "taskcore.worker.commands",
    "billiard": "multiprocessing",
    "billiard.exceptions": _EXCEPTIONS,
    "billiard.process": "multiprocessing.process",
    "billiard.pool": "multiprocessing.pool",
    "billiard.einfo": "taskcore.results.exception_codec",
    "kombu": "taskcore.utils",
    "kombu.common": "taskcore.utils",
    "kombu.exceptions": _EXCEPTIONS,
    "kombu.serialization": "taskcore.serialize",
    "kombu.utils": "taskcore.utils",
    "kombu.utils.uuid": "taskcore.utils",
    "kombu.utils.imports": "taskcore.utils",
    "kombu.utils.objects": "functools",
}
"""Modules that stand elsewhere, or that taskcore has no module of the same name for."""

EXTRA: dict[str, tuple[str, str]] = {
    "celery._state.get_current_app": (_CURRENT, "get_app"),
    "celery._state.set_default_app": (_CURRENT, "set_app"),
    "celery._state.connect_on_app_finalize": (_CURRENT, "add_shared_task"),
    "celery.app.default_app": ("taskcore.app", "current_app"),
    "celery.exceptions.CeleryError": (_EXCEPTIONS, "TaskcoreError"),
    "celery.exceptions.CeleryWarning": (_EXCEPTIONS, "TaskcoreWarning"),
    "celery.utils.gen_unique_id": ("taskcore.utils", "uuid"),
    "celery.utils.imports.symbol_by_name": ("taskcore.utils", "symbol_by_name"),
    "celery.utils.imports.instantiate": ("taskcore.utils", "symbol_by_name"),
    "celery.local.PromiseProxy": ("taskcore.local", "Proxy"),
    "celery.utils.dispatch.Signal": ("taskcore.signals", "Signal"),
    "billiard.einfo.ExceptionInfo": ("taskcore.results.exception_codec", "ExceptionInfo"),
    "kombu.utils.uuid": ("taskcore.utils", "uuid"),
    "kombu.utils.imports.symbol_by_name": ("taskcore.utils", "symbol_by_name"),
}
"""Names that stand elsewhere."""


class _Unavailable(type):
    """A class, or a function, of Celery's that is not here: it can be imported and subclassed, and
    raises when it is used."""

    _why: str
    """What it says then."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise NotSupportedError(cls._why)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotSupportedError(cls._why)


def _unavailable(module: str, name: str) -> type:
    short = module.partition(".")[2]
    reasons = (unsupported.MODULES.get(part) for part in (short, short.rpartition(".")[0]))
    why = next((reason for reason in reasons if reason), "see docs/coming-from-celery.md")
    text = f"`{module}.{name}` of Celery's is not in this version of taskcore: {why}"
    # An exception, so that it may stand behind `except`.
    return _Unavailable(name, (Exception,), {"_why": text, "__module__": module})


def target_of(module: str, name: str) -> tuple[Any] | None:
    """What a name of one of Celery's modules is here, in a tuple; None: it is not here."""
    if f"{module}.{name}" in MAP and f"{module}.{name}" not in EXTRA:
        return (_module(f"{module}.{name}"),)
    if place := EXTRA.get(f"{module}.{name}"):
        return (getattr(import_module(place[0]), place[1]),)
    if (own := _OWN.get(f"{module}.{name}")) is not None:
        return (own() if callable(own) else own,)
    target = _module(module)
    return (getattr(target, name),) if target is not None and hasattr(target, name) else None


def _module(name: str) -> ModuleType | None:
    """The module of taskcore that an alias stands for."""
    place = MAP.get(name) or name.replace("celery", "taskcore", 1)
    if place.partition(".")[0] in ("celery", "kombu", "billiard"):
        return None
    try:
        return import_module(place)
    except NotSupportedError:
        return None
    except ModuleNotFoundError as exc:
        if exc.name is None or not (place == exc.name or place.startswith(exc.name + ".")):
            raise
        return None


class _Alias(ModuleType):
    """A module of Celery's. What is set on it is set on the module that it stands for."""

    __path__: list[str] = []  # noqa: RUF012 - every module may have others below it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        below = f"{self.__name__}.{name}"
        if below in MAP and below not in EXTRA:
            return import_module(below)
        found = target_of(self.__name__, name)
        if found is not None:
            return found[0]
        if self._has(name):
            made = self.__dict__[name] = _unavailable(self.__name__, name)
            return made
        if _is_known(below):
            return import_module(below)
        raise AttributeError(f"module `{self.__name__}` has no attribute `{name}`")

    def _has(self, name: str) -> bool:
        """Whether the module of Celery's has a name that is not here."""
        root, _, below = self.__name__.partition(".")
        if root == "billiard":  # of which there is no table
            return not name.startswith("_") and name not in ("pool", "process", "exceptions")
        return root == "celery" and name in MISSING.get(below, "").split()

    def __setattr__(self, name: str, value: Any) -> None:
        target = _module(self.__name__)
        if target is not None and name in vars(target) and not isinstance(value, ModuleType):
            setattr(target, name, value)
        else:
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        target = _module(self.__name__)
        return sorted({*super().__dir__(), *(dir(target) if target is not None else ())})

    @property
    def __all__(self) -> list[str]:
        target = _module(self.__name__)
        names = getattr(target, "__all__", None) or [
            name for name in dir(target) if not name.startswith("_")
        ]
        return list(names)


class _Loader(Loader):
    """Makes aliases."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Alias(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _Finder(MetaPathFinder):
    """Finds aliases below some packages."""

    def __init__(self, *roots: str) -> None:
        self.roots = roots

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in self.roots or not _is_known(name):
            return None
        return ModuleSpec(name, _Loader(), is_package=True)


def _is_known(name: str) -> bool:
    return (
        name in ("celery", "kombu", "billiard")
        or name in MAP
        or name.partition(".")[2] in MISSING
        or _module(name) is not None
    )


class _PoolWorker:
    """What packages replace that want to do something before a process of the pool ends."""

    def workloop(self) -> None:
        """Called in a process of the pool before it ends."""


class _Registry:
    """`celery.registry.tasks`: those of the current app."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(_CURRENT).get_app().tasks, name)

    def __getitem__(self, name: str) -> Any:
        return import_module(_CURRENT).get_app().tasks[name]


def _before_a_process_ends(**_: Any) -> None:
    _PoolWorker().workloop()


_TASKS = _Registry()
_OWN: dict[str, Any] = {
    "celery.VERSION": VERSION,
    "celery.version_info": VERSION,
    "celery.__version__": ".".join(map(str, VERSION)),
    "billiard.VERSION": (4, 2, 1),
    "billiard.__version__": "4.2.1",
    "billiard.pool.Worker": lambda: _PoolWorker,
    "celery.registry.tasks": lambda: _TASKS,
    "kombu.Producer": lambda: _unavailable("kombu", "Producer"),
    "kombu.Consumer": lambda: _unavailable("kombu", "Consumer"),
    "kombu.Connection": lambda: _unavailable("kombu", "Connection"),
}


def install() -> None:
    """Makes `celery` and `billiard` mean taskcore, and `kombu` where it is not installed.

    Raises:
        RuntimeError: Celery itself was imported before.
    """
    there = sys.modules.get("celery")
    if isinstance(there, _Alias):
        return
    if there is not None:
        raise RuntimeError(
            "`celery` was imported before `taskcore.as_celery`: expected the other order, as the first import of the program"
        )
    for name in [name for name in sys.modules if name.partition(".")[0] == "billiard"]:
        del sys.modules[name]
    roots = ("celery", "billiard") + (() if find_spec("kombu") else ("kombu",))
    sys.meta_path.insert(0, _Finder(*roots))
    signals = import_module("taskcore.signals")
    signals.worker_process_shutdown.connect(
        _before_a_process_ends, dispatch_uid="taskcore.as_celery"
    )
