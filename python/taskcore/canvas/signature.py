"""Signature: a call as a value, to be kept, passed on and sent later.

It is a dict with exactly Celery's six keys, so it crosses the wire as it is, in both directions.
What it is bound to (the app, and through it the task) is an attribute beside the dict and never
sent. A signature from the wire may be plain: every function here that takes a signature takes a
dict as well.
"""

from __future__ import annotations

from taskcore import current
from taskcore.exceptions import NotSupportedError
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import is_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeVar

    from taskcore.results.async_result import AsyncResult

    S = TypeVar("S", bound="Signature")

_KEPT = frozenset({"group_id", "stamped_headers"})
"""Options where the stored value wins over the one at the call."""


class Signature(dict[str, "Any"]):
    """A task with arguments and options that has not been called yet."""

    if TYPE_CHECKING:
        _app: Any
    _app = None

    def __init__(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        app: Any = None,
        **more: Any,
    ) -> None:
        """
        Args:
            task: a task, the name of one, or a signature as a dict.
            args: positional arguments; those given at the call come before them.
            options: as for `apply_async`; `more` are options as well.
            immutable: take no arguments from what runs before.
        """
        if is_mapping(task):
            super().__init__(task)
            for key, default in (
                ("args", ()),
                ("kwargs", {}),
                ("options", {}),
                ("subtask_type", None),
            ):
                self.setdefault(key, default)
            self.setdefault("immutable", False)
            self["args"] = tuple(self["args"])  # a list on the wire
        else:
            name = task if isinstance(task, str) else getattr(task, "name", None)
            if not isinstance(name, str):
                raise TypeError(
                    f"signature of `{task!r}`: expected a task, the name of one, or a dict"
                )
            super().__init__(
                task=name,
                args=tuple(args or ()),
                kwargs=dict(kwargs or {}),
                options={**(options or {}), **more},
                subtask_type=None,
                immutable=immutable,
            )
            app = app or getattr(task, "app", None)
        self._app = app

    # Reading

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self["task"])

    name = task

    @property
    def args(self) -> Any:
        """Positional arguments."""
        return self["args"]

    @property
    def kwargs(self) -> Any:
        """Keyword arguments."""
        return self["kwargs"]

    @property
    def options(self) -> Any:
        """Options of `apply_async`."""
        return self["options"]

    @property
    def subtask_type(self) -> str | None:
        """The kind of composition; None for a single task."""
        kind: str | None = self["subtask_type"]
        return kind

    @property
    def immutable(self) -> bool:
        """Whether it takes no arguments from what runs before."""
        return bool(self["immutable"])

    @property
    def id(self) -> str | None:
        """Task id, if it was set."""
        task_id: str | None = self["options"].get("task_id")
        return task_id

    @property
    def app(self) -> Any:
        """The app that it is sent through."""
        return self._app or current.get_app()

    # Deriving

    def clone(
        self: S,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **opts: Any,
    ) -> S:
        """A copy, with arguments put before its own and options over its own."""
        from copy import deepcopy

        new = type(self)(self, app=self._app)
        merged = self.merged(args, kwargs, opts)
        # The signatures that it links to are changed in place by many programs.
        new.update(args=merged[0], kwargs=merged[1], options=deepcopy(merged[2]))
        return new

    partial = clone

    def merged(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Arguments and options of a call with these added."""
        own = self["options"]
        kept = _KEPT.union(own.get("stamped_headers") or ())
        changed = {
            k: v
            for k, v in (options or {}).items()
            if v is not None and not (k in kept and k in own)
        }
        if self["immutable"]:
            return tuple(self["args"]), dict(self["kwargs"]), {**own, **changed}
        return (
            (*(args or ()), *self["args"]),
            {**self["kwargs"], **(kwargs or {})},
            {**own, **changed},
        )

    def set(self: S, immutable: bool | None = None, **options: Any) -> S:
        """Sets options, in place."""
        if immutable is not None:
            self["immutable"] = immutable
        self["options"] = {**self["options"], **options}
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Whether it takes arguments from what runs before."""
        self["immutable"] = immutable

    def replace(
        self: S,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> S:
        """A copy with other arguments or options instead of its own."""
        new = self.clone()
        for key, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                new[key] = tuple(value) if key == "args" else dict(value)
        return new

    def link(self, callback: Mapping[str, Any]) -> Mapping[str, Any]:
        """Adds what runs with the result after success; gives it back."""
        return self._append("link", callback)

    def link_error(self, errback: Mapping[str, Any]) -> Mapping[str, Any]:
        """Adds what runs after failure; gives it back."""
        return self._append("link_error", errback)

    def on_error(self: S, errback: Mapping[str, Any]) -> S:
        """As `link_error`, giving back this signature."""
        self.link_error(errback)
        return self

    def _append(self, key: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        present = self["options"].get(key) or []
        items = list(present) if isinstance(present, (list, tuple)) else [present]
        if value not in items:
            items.append(value)
        self["options"] = {**self["options"], key: items}
        return value

    # Calling

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Sends it with arguments added."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Sends it with arguments and options added; options as for `Task.apply_async`."""
        if self["subtask_type"]:
            raise NotSupportedError(
                f"cannot send a {self['subtask_type']}: this version sends single tasks only"
            )
        merged = self.merged(args, kwargs, options)
        result: AsyncResult[Any] = self.app.send_signature(self["task"], *merged)
        return result

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Runs it here and now; gives an EagerResult."""
        merged = self.merged(args, kwargs, options)
        return self.app.tasks[self["task"]].apply(merged[0], merged[1], **merged[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the task's function in this process."""
        merged = self.merged(args, kwargs)
        return self.app.tasks[self["task"]](*merged[0], **merged[1])

    def __invert__(self) -> Any:
        """`~sig`: sends it and waits for the value."""
        return self.delay().get()

    def __or__(self, other: Any) -> Any:
        raise NotSupportedError(
            "chains are not supported in this version: use link=, or call the next task yourself"
        )

    def __deepcopy__(self: S, memo: Any) -> S:
        from copy import deepcopy

        return type(self)(deepcopy(dict(self), memo), app=self._app)

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)

    def __repr__(self) -> str:
        parts = [repr(arg) for arg in self["args"]] + [
            f"{k}={v!r}" for k, v in self["kwargs"].items()
        ]
        return f"{self['task']}({', '.join(parts)})"


def signature(task: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Signature:
    """A signature of a task, of the name of one, or of a dict."""
    if isinstance(task, Signature) and args is None and kwargs is None and not options:
        return task.clone()
    sig = Signature(task, None if is_mapping(task) else args, kwargs, **options)
    return sig.clone(args, kwargs) if is_mapping(task) and (args or kwargs) else sig


subtask = signature


def maybe_signature(d: Any, app: Any = None) -> Signature | None:
    """Makes a signature of a dict; leaves None and signatures alone."""
    if d is None or isinstance(d, Signature):
        return d
    return Signature(d, app=app)
