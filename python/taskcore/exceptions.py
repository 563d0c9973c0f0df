"""Every exception of taskcore in one tree, with Celery's names; one sentence each says when it is
raised.

The core looks these classes up here once and raises them, so this module imports nothing of
taskcore. Constructors keep their arguments in `args`: a result document carries exactly those, and
the reader rebuilds the exception from them. Names that Celery, kombu and billiard spread over
three packages live in this one place; `results/exception_codec.py` knows which package to name in
a document, so that a stock Celery client finds its own class.
"""

from __future__ import annotations

import builtins
import sys

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any


class TaskcoreError(Exception):
    """Base of everything that taskcore raises."""


CeleryError = TaskcoreError


# Configuration and calls


class ImproperlyConfigured(TaskcoreError):
    """A setting is unknown, has the wrong type, or contradicts another."""


class SecurityError(TaskcoreError):
    """A stored document or message asks for something that is not safe to do."""


class NotSupportedError(TaskcoreError, NotImplementedError):
    """This version of taskcore does not do what was asked; the message says what to do instead."""


# Broker, serializers


class _KombusToo(TaskcoreError):
    """Base of what kombu has a class of the same name for: where kombu is loaded, `except` of its
    class catches ours."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Whoever names a class of kombu's has loaded it; nobody else pays for the import.
        kombu = sys.modules.get("kombu.exceptions")
        for cls in type(self).__mro__ if kombu is not None else ():
            theirs = getattr(kombu, cls.__name__, None) if cls.__module__ == __name__ else None
            if isinstance(theirs, type) and not issubclass(cls, theirs):
                cls.__bases__ = (*cls.__bases__, theirs)


class OperationalError(_KombusToo):
    """The broker or the result store could not be reached, or did not confirm within the deadline."""


class UnroutableError(OperationalError):
    """No queue receives what was published; of a bulk publish, `unroutable` holds the ids that did
    not go out, and `published` those that did."""


class SerializationError(_KombusToo):
    """Base of the errors of encoding and decoding."""


class EncodeError(SerializationError):
    """A value cannot be written with the serializer."""


class DecodeError(SerializationError):
    """Bytes are not what their content type says."""


class SerializerNotInstalled(SerializationError):
    """A serializer is unknown, or the package that it needs is not installed."""


class ContentDisallowed(SerializerNotInstalled):
    """A body has a content type that `accept_content` does not name."""


# What a task may raise to say how it ends


class TaskPredicate(TaskcoreError):
    """Base of what a task raises to steer the worker."""


class Ignore(TaskPredicate):
    """Raised by a task: forget this execution, store nothing."""


class Reject(TaskPredicate):
    """Raised by a task with late acknowledgement: refuse the message, or with `requeue` put it back."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Retry(TaskPredicate):
    """Raised by `Task.retry` once the task has been published again."""

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
    ) -> None:
        super().__init__(message, exc, when)
        self.message = message
        self.exc = exc
        self.when = when
        self.is_eager = is_eager
        self.sig = sig

    def humanize(self) -> str:
        """When it runs again, in words."""
        if isinstance(self.when, (int, float)):
            return f"in {round(self.when, 3)}s"
        return f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        return f"Retry {self.humanize()}: {self.exc!r}" if self.exc else f"Retry {self.humanize()}"


# Tasks and results


class TaskError(TaskcoreError):
    """Base of the errors about tasks."""


class NotRegistered(KeyError, TaskError):
    """No task of that name is registered with the app."""

    def __repr__(self) -> str:
        return f"NotRegistered({self.args[0] if self.args else ''!r})"


class AlreadyRegistered(TaskError):
    """Another task already has that name."""


class QueueNotFound(KeyError, TaskError):
    """A queue is not known to the broker."""


class IncompleteStream(TaskError):
    """A result is followed to what its task published, and a task is not ready."""


class InvalidTaskError(TaskError):
    """A task message lacks something or holds a value of the wrong kind."""


class TaskRevokedError(TaskError):
    """The task was revoked or expired before it ran."""


class MaxRetriesExceededError(TaskError):
    """`retry` was called more often than `max_retries` allows."""

    def __init__(self, *args: Any, task_args: Any = (), task_kwargs: Any = None) -> None:
        super().__init__(*args)
        self.task_args = task_args
        self.task_kwargs = task_kwargs or {}


class ChordError(TaskError):
    """A task in the header of a chord failed."""


class TimeoutError(TaskError, builtins.TimeoutError):
    """A result was not ready within `timeout` seconds."""


class SoftTimeLimitExceeded(TaskcoreError):
    """Raised inside a task that runs longer than its soft time limit."""

    def __str__(self) -> str:
        return f"SoftTimeLimitExceeded{self.args}"


class TimeLimitExceeded(TaskcoreError):
    """The task ran longer than its hard time limit and its process was killed."""

    def __str__(self) -> str:
        return f"TimeLimitExceeded{self.args}"


class WorkerLostError(TaskcoreError):
    """The process that ran the task ended before the task did."""


class Terminated(TaskcoreError):
    """The task was terminated by request while it ran."""


# Result stores


class BackendError(TaskcoreError):
    """Base of the errors of result stores."""


class BackendGetMetaError(BackendError):
    """A result document could not be read."""

    def __init__(self, *args: Any, task_id: str = "") -> None:
        super().__init__(*args)
        self.task_id = task_id


class BackendStoreError(BackendError):
    """A result document could not be written."""

    def __init__(self, *args: Any, state: str = "", task_id: str = "") -> None:
        super().__init__(*args)
        self.state = state
        self.task_id = task_id


# Worker


class WorkerShutdown(SystemExit):
    """Raised in the worker's main thread to stop warmly."""


class WorkerTerminate(SystemExit):
    """Raised in the worker's main thread to stop at once."""


# Warnings


class TaskcoreWarning(UserWarning):
    """Base of the warnings."""


CeleryWarning = TaskcoreWarning


class NotConfigured(ImproperlyConfigured, TaskcoreWarning):
    """A shared task, or the current app, was used to send or to wait although no app was made."""


class DuplicateNodenameWarning(TaskcoreWarning):
    """Several workers that answered have one name."""


class DuplicateTaskNameWarning(TaskcoreWarning):
    """Two functions have one task name; the first keeps it."""


class AlwaysEagerIgnored(TaskcoreWarning):
    """`send_task` by name publishes even with `task_always_eager`."""


class SettingIgnored(TaskcoreWarning):
    """A setting of Celery's is accepted but has no effect in taskcore; the message says why."""


class SecurityWarning(TaskcoreWarning):
    """Something that is asked for weakens the safety of the worker."""
