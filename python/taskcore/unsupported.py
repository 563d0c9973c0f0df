"""Celery's names that this version does not have, each with what to do instead.

A program that is moved over must not find them out by an AttributeError in the middle of its work.
The owners (the app, a task, a result, the package) ask here when a name is missing; a name that is
Celery's gets one clear error, any other name the ordinary one. Nothing is defined by this:
`hasattr` is still False on objects.
"""

from __future__ import annotations

from taskcore.exceptions import NotSupportedError
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import hint

if TYPE_CHECKING:
    from typing import Final

_START: Final = "start it from a shell: `taskcore -A proj worker`"
_BLUEPRINT: Final = "connect to the signals of `taskcore.signals`"

_HOOKS: Final = (
    "a worker's loop is in its core: use the hooks of tasks, and the signals of `taskcore.signals`"
)
_STORE: Final = "name the result store in `result_backend`, and read results by `AsyncResult`"
_TEST: Final = "start a worker with `taskcore.contrib.testing.worker.start_worker`, or run tasks with `taskcore.testing.eager`"
_HELPERS: Final = "Celery's helpers are its own: use the standard library"

MODULES: Final = {
    "app.autoretry": "pass `autoretry_for` to the task",
    "app.backends": _STORE,
    "app.builtins": "chains, groups and chords are in `taskcore.canvas`",
    "app.defaults": "the settings are in `app.conf`",
    "app.routes": "set `task_routes`",
    "app.trace": _HOOKS,
    "app.utils": "the settings are in `app.conf`",
    "apps": _START,
    "backends": _STORE,
    "bin": "the command line is `taskcore`; a program calls `app.send_task`",
    "bootsteps": _BLUEPRINT,
    "concurrency": "choose a pool with `worker -P`",
    "contrib.abortable": "let the task look at a flag of your own, in a database or a cache",
    "contrib.migrate": "read from one app and publish with `send_many` of the other",
    "contrib.rdb": "run the worker with `-P solo` in a terminal, and call `breakpoint()` in the task",
    "contrib.sphinx": "`sphinx.ext.autodoc` documents the functions of tasks",
    "contrib.testing.manager": _TEST,
    "contrib.testing.mocks": _TEST,
    "fixups": "a worker sets up Django by itself, where DJANGO_SETTINGS_MODULE is set",
    "loaders": "settings are in `app.conf`, modules are imported by `app.import_modules()`",
    "platforms": "use `os` and `signal`",
    "security": "restrict who can write to the broker",
    **dict.fromkeys(
        ("worker.autoscale", "worker.components", "worker.consumer", "worker.heartbeat"), _HOOKS
    ),
    **dict.fromkeys(
        ("worker.pidbox", "worker.request", "worker.state", "worker.strategy", "worker.worker"),
        _HOOKS,
    ),
    **dict.fromkeys(
        (
            "utils.collections",
            "utils.debug",
            "utils.dispatch",
            "utils.functional",
            "utils.imports",
            "utils.iso8601",
            "utils.nodenames",
            "utils.objects",
            "utils.saferepr",
            "utils.serialization",
            "utils.text",
            "utils.threads",
        ),
        _HELPERS,
    ),
}
"""Modules, as they are named below `celery`."""

APP: Final = {
    **dict.fromkeys(("Worker", "WorkController"), _START),
    **dict.fromkeys(("steps", "user_options"), _BLUEPRINT),
    "loader": "settings are in `app.conf`, modules are imported by `app.import_modules()`",
    "log": "connect to the signal `setup_logging`",
    "setup_security": "restrict who can write to the broker",
}
"""Of an app."""

CONF: Final = {
    **dict.fromkeys(("popitem", "clear"), "set a setting to None for its default"),
}
"""Of `app.conf`, as a mapping."""

TASK: Final = {
    "start_strategy": "what a worker does with a message is decided in its core",
}
"""Of a task."""

RESULT: Final[dict[str, str]] = {}
"""Of an AsyncResult."""


COMMANDS: Final = {
    "flower": "it runs beside Celery, and shows workers of both kinds: `celery --broker=URL flower`",
    "multi": "start several workers by systemd, supervisor or a container each",
    "amqp": "`queues`, `purge` and `dead` look after queues",
    "migrate": "read from one app and publish with `send_many` of the other",
    "graph": "`taskcore -A proj status` lists the workers",
    "logtool": "search the log by task id",
}
"""Of the command line."""

WORKER_OPTIONS: Final = {
    **dict.fromkeys(
        ("-D", "--detach", "--uid", "--gid", "--umask", "--executable"),
        "let systemd, supervisor or a container run it",
    ),
    "--pool-start-method": "processes are forked from one that has the app loaded",
    "--heartbeat-interval": "a worker renews its lease by itself",
}
"""Of `worker`."""

SHELL_OPTIONS: Final = dict.fromkeys(
    ("--gevent", "--eventlet"), "nothing waits in an event loop of theirs: leave it out"
)
"""Of `shell`."""

BEAT_OPTIONS: Final = {
    "--executable": "name the interpreter in front: `python3.12 -m taskcore -A proj beat`",
}
"""Of `beat`."""

POOLS: Final = dict.fromkeys(
    ("gevent", "eventlet"),
    "`-P asyncio` runs many `async def` tasks at a time in each process, and `-P threads -c 100` a hundred functions "
    "that wait for I/O",
)
"""Of `worker --pool`."""

PROGRAM_OPTIONS: Final = {
    "--loader": "call `app.config_from_object` in the module of the app",
}
"""Of the program, in front of the command."""


class _UnsupportedAttribute(NotSupportedError, AttributeError):
    """An attribute of Celery's that this version does not have."""


class _UnsupportedModule(NotSupportedError, ModuleNotFoundError):
    """A module of Celery's that is not here. Without the attribute `name`, by which Python would take
    it for a name that a package does not have."""


def attribute_error(owner: object, name: str, table: dict[str, str]) -> AttributeError:
    """The error for a missing attribute.

    Args:
        table: Celery's names that are known to be missing, and what to do instead.
    """
    kind = type(owner).__name__
    if name in table:
        return _UnsupportedAttribute(
            f"`{name}` of Celery's `{kind}` is not in this version: {table[name]}"
        )
    public = [known for known in dir(type(owner)) if not known.startswith("_")]
    return AttributeError(f"`{kind}` has no attribute `{name}`{hint(name, public)}")


def message(name: str, table: dict[str, str]) -> str | None:
    """The error for an option or a command, or None when it is none of Celery's."""
    if name not in table:
        return None
    return f"`{name}` of Celery's is not in this version: {table[name]}"


def check_module(name: str) -> None:
    """Refuses to import a module that only Celery has.

    Raises:
        NotSupportedError: and ModuleNotFoundError, with what to do instead.
    """
    short = name.partition(".")[2]
    if short in MODULES:
        raise _UnsupportedModule(
            f"module `celery.{short}` has no `{name}` in this version: {MODULES[short]}"
        )


def import_error(module: str, name: str) -> AttributeError:
    """The error for a name that is missing from a module."""
    return AttributeError(f"module `{module}` has no attribute `{name}`")
