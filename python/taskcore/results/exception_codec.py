"""Exceptions on their way into result documents and back.

Owns the three fields `exc_type`, `exc_message`, `exc_module` and the text of tracebacks. Celery's
clients and workers read and write the same fields, so classes that taskcore shares with Celery are
written under Celery's module names and found here whichever of them a document names. Reading is
safe: a document never makes this process import a module, and never yields anything but an
exception. The price is that an exception of a module the reader has not loaded comes back as a
made-up class of the same name.
"""

from __future__ import annotations

import sys
from os.path import dirname, sep
from types import TracebackType
from typing import Any

from taskcore import exceptions, serialize

_CELERY = [
    "TaskPredicate",
    "Ignore",
    "Reject",
    "Retry",
    "TaskError",
    "NotRegistered",
    "AlreadyRegistered",
    "QueueNotFound",
    "IncompleteStream",
    "InvalidTaskError",
    "TaskRevokedError",
    "MaxRetriesExceededError",
    "ChordError",
    "TimeoutError",
    "ImproperlyConfigured",
    "SecurityError",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "WorkerShutdown",
    "WorkerTerminate",
]
_BILLIARD = ["SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated"]
_KOMBU = [
    "OperationalError",
    "SerializationError",
    "EncodeError",
    "DecodeError",
    "SerializerNotInstalled",
    "ContentDisallowed",
]

_WRITTEN_AS = {
    **dict.fromkeys(_CELERY, "celery.exceptions"),
    **dict.fromkeys(_BILLIARD, "billiard.exceptions"),
    **dict.fromkeys(_KOMBU, "kombu.exceptions"),
}
# celery.exceptions offers all of them; billiard has a second module for the same classes.
_READ_AS_OURS = frozenset(
    {"celery.exceptions", "billiard.exceptions", "billiard.einfo", "kombu.exceptions"}
)
_OWN_DIR = dirname(exceptions.__file__) + sep
_PLAIN = (str, int, float, bool, type(None))
_TRACEBACK = 256 * 1024
"""Characters of a stored traceback: it repeats the message of the exception, however long that is."""


class ExceptionInfo:
    """What hooks and signals get as `einfo`: the exception, and its traceback as text."""

    def __init__(self, exception: BaseException, traceback: str) -> None:
        self.exception = exception
        self.type = type(exception)
        self.tb: TracebackType | None = exception.__traceback__
        self.traceback = traceback

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {self.exception!r}>"


def to_document(exc: BaseException) -> dict[str, Any]:
    """The exception as it is stored: arguments that json cannot write become their `repr`."""
    cls = type(exc)
    module: str | None = cls.__module__
    if module == exceptions.__name__:
        module = _WRITTEN_AS.get(cls.__name__, module)
    return {
        "exc_type": cls.__qualname__,
        "exc_message": [_writable(arg) for arg in exc.args],
        "exc_module": module,
    }


def _writable(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    try:
        serialize.dumps(value, "json")
    except Exception:
        return _safe_repr(value)
    return value


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<unprintable {type(value).__name__}>"


def from_document(document: Any) -> BaseException:
    """Rebuilds an exception from its stored form; an ordinary one, see `ordinary`.

    Raises:
        SecurityError: the document names something that is not an exception class.
    """
    if isinstance(document, BaseException):
        return ordinary(document)  # a store with the pickle serializer holds the object itself
    if not isinstance(document, dict) or "exc_type" not in document:
        return exceptions.TaskcoreError(document)
    name = str(document["exc_type"])
    cls = _find(name, document.get("exc_module"))
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        raise exceptions.SecurityError(
            f"stored exception type `{name}` is not an exception class: refused"
        )
    message = document.get("exc_message")
    args = tuple(message) if isinstance(message, (list, tuple)) else (message,)
    if issubclass(cls, Exception):
        try:
            return cls(*args)
        except Exception:  # noqa: S110 - a constructor that wants something else than its `args`
            pass
    return _made_up(name, cls.__module__, NotRebuilt)(*args)


def ordinary(exc: BaseException) -> Exception:
    """The exception of a task as it may be raised in another program.

    SystemExit, KeyboardInterrupt, CancelledError and what else is no `Exception` would end the
    caller, or the event loop in which it waits, for what happened elsewhere. It arrives as a
    failure that has its name and arguments.
    """
    if isinstance(exc, Exception):
        return exc
    cls = type(exc)
    substitute = _made_up(cls.__qualname__, cls.__module__, NotRebuilt)(*exc.args)
    return substitute.with_traceback(exc.__traceback__)


class NotRebuilt(exceptions.TaskcoreError):
    """Stands in for an exception whose own class cannot be raised here; its subclass has that one's
    name."""

    def __str__(self) -> str:
        name, text = type(self).__name__, super().__str__()
        return f"{name}: {text}" if text else name


def _find(name: str, module: str | None) -> Any:
    if not module:
        module = "builtins"
    if module in _READ_AS_OURS or module == exceptions.__name__:
        known = getattr(exceptions, name, None)
        if isinstance(known, type):
            return known
    target = sys.modules.get(module)
    for part in name.split("."):
        target = getattr(target, part, None)
        if target is None:
            return _made_up(name, module)
    return target


def _made_up(
    name: str, module: str, base: type[Exception] = exceptions.TaskcoreError
) -> type[Exception]:
    return type(
        name.rpartition(".")[2],
        (base,),
        {"__module__": module, "__qualname__": name},
    )


def format_traceback(exc: BaseException) -> str:
    """The traceback as text, without the frames of taskcore itself: they are the same in every
    traceback. Of one that is very long the middle is left out."""
    from traceback import TracebackException

    formatted = TracebackException.from_exception(exc)
    _drop_own_frames(formatted)
    text = "".join(formatted.format())
    if len(text) <= _TRACEBACK:
        return text
    half = _TRACEBACK // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _drop_own_frames(formatted: Any) -> None:
    from traceback import StackSummary

    seen: set[int] = set()
    waiting = [formatted]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.stack = StackSummary.from_list(
            [frame for frame in one.stack if not frame.filename.startswith(_OWN_DIR)]
        )
        waiting += [one.__cause__, one.__context__, *(one.exceptions or ())]
