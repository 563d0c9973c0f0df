"""The registry of an app: tasks by name, how a function becomes one of them, and how it is named.

A name belongs to one function, because messages carry only the name. Defining the same function
again (a module that is loaded twice, a notebook cell that is run again) replaces the task; of two
functions with one name the first has it, as in Celery, with a warning.
"""

from __future__ import annotations

import sys
from os.path import basename, splitext

from taskcore import current
from taskcore.app import annotating
from taskcore.config.validators import rate_per_second
from taskcore.exceptions import DuplicateTaskNameWarning, ImproperlyConfigured, NotRegistered
from taskcore.task import Task
from taskcore.task.options import (
    OF_DECORATOR,
    OPTIONS,
    check_class,
    check_names,
    check_values,
)
from taskcore.typed import TYPE_CHECKING, P, R
from taskcore.utils import hint, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any, Concatenate, Protocol, overload

    # Protocols are slow to make, and only a type checker looks at these.

    class CoroutineTask(Task[P, R]):
        """The task of an `async def` function: called directly it gives the coroutine, and its result
        is what that returns."""

        def __call__(  # type: ignore[override]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R]: ...

    class Decorator(Protocol):
        """What `app.task(...)` gives: makes a task of a function, of the awaited value of an `async
        def`."""

        @overload
        def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineTask[P, R]: ...
        @overload
        def __call__(self, fun: Callable[P, R], /) -> Task[P, R]: ...

    class BoundDecorator(Protocol):
        """The same with `bind=True`: the first parameter is the task."""

        @overload
        def __call__(
            self, fun: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
        ) -> CoroutineTask[P, R]: ...
        @overload
        def __call__(self, fun: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


_DECORATOR = OPTIONS | OF_DECORATOR


_OF_MAKE = ("shared", "lazy", "filter")
_NAMED_BY = ("__module__", "__qualname__")


class TaskRegistry(dict[str, "Task[..., Any]"]):
    """Tasks by name."""

    def __missing__(self, name: str) -> Task[..., Any]:
        raise NotRegistered(f"no task named `{name}`{hint(name, self)}")

    def unregister(self, name: Any) -> None:
        """Takes a task out, named by itself or its name.

        Raises:
            NotRegistered: there is none.
        """
        del self[self[getattr(name, "name", name)].name]


def base_class(task_cls: Any) -> type:
    """The class that the tasks of an app derive from; text names its module and itself, as in
    `proj.base:MyTask`.

    Raises:
        ImproperlyConfigured: there is no such class, or it is none of tasks.
    """
    cls = task_cls
    if isinstance(task_cls, str):
        from importlib import import_module

        module, _, name = task_cls.replace(":", ".").rpartition(".")
        try:
            cls = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as exc:
            raise ImproperlyConfigured(
                f"task_cls is `{task_cls}`: expected a class, or `module:name` of one"
            ) from exc
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise ImproperlyConfigured(
            f"task_cls is `{task_cls!r}`: expected a subclass of taskcore.Task"
        )
    return cls


def check_options(options: Mapping[str, Any], default_base: type) -> None:
    """Looks at the options of the decorator; those that nobody knows are attributes of the user's
    own.

    Raises:
        TypeError: an option of Celery's that this version does not have.
    Warns:
        TaskcoreWarning: a name that reads like a slip of the pen.
    """
    check_names(options, options.get("base") or default_base, _DECORATOR)


def make(app: Any, fun: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """What the decorator gives: the task, or what `filter` makes of it. With `shared`, every other
    app gets the task too."""
    values = dict(options)
    values.pop("lazy", None)  # a task is made at once: nothing is gained by waiting
    shared, chosen = values.pop("shared", False), values.pop("filter", None)
    made: Any = make_task(app, fun, values)
    if shared:
        current.add_shared_task(lambda other: other is app or make_task(other, fun, values))
    return made if chosen is None else chosen(made)


def make_task(app: Any, fun: Callable[..., Any], options: Mapping[str, Any]) -> Task[..., Any]:
    """Makes a task of a function and registers it; gives the one that has the name where that is
    another function's."""
    values = {key: value for key, value in options.items() if key not in _OF_MAKE}
    bound, base = bool(values.pop("bind", False)), values.pop("base", None)
    name = values.pop("name", None) or app.gen_task_name(fun.__name__, fun.__module__)
    before: Task[..., Any] | None = app.tasks.get(name)
    if before is not None and not _same(before, fun):
        text = f"task name `{name}` is taken by another function, which is called instead: give one of them name="
        warn(text, DuplicateTaskNameWarning)
        return before
    task: Task[..., Any] = (base or app.Task)()
    values.setdefault("typing", app.strict_typing and task.typing)
    task.set_options(values)
    _check_rate(name, task.rate_limit)
    task.bind(app, name, fun, bound)
    _add(app, task)
    return task


def register(app: Any, task: Task[..., Any], options: Mapping[str, Any]) -> None:
    """Registers a class-based task under its own name, or that of its class."""
    check_names(options, type(task))
    task.set_options(options)
    cls = type(task)
    task.bind(app, task.name or app.gen_task_name(cls.__name__, cls.__module__))
    _add(app, task)


def annotate(app: Any, task: Task[..., Any]) -> None:
    """Sets what `task_annotations` says about a task; done again whenever the configuration changes.

    Raises:
        ImproperlyConfigured: it names an option that does not exist, or has a wrong value for one.
    """
    if not app.conf.waits:
        annotating.apply(app, task, lambda task: _check_rate(task.name, task.rate_limit))


def _add(app: Any, task: Task[..., Any]) -> None:
    check_class(task)
    check_values(task)
    task.on_bound(app)
    replaced = app.tasks.get(task.name)
    if replaced is not None:
        app.producer.invalidate_task(replaced)
    app.tasks[task.name] = task
    task._registered = True
    app.has_own_tasks = app.has_own_tasks or not task.name.startswith("celery.")
    annotate(app, task)
    app.invalidate_plans()


def automatic_name(name: str, module: str | None, main: str | None) -> str:
    """The name of a task that was given none."""
    if module == "__main__":
        path = getattr(sys.modules.get("__main__"), "__file__", None)
        module = main or (splitext(basename(path))[0] if path else module)
    return f"{module}.{name}" if module else name


def _same(task: Task[..., Any], fun: Callable[..., Any]) -> bool:
    """Whether a task was made of this function, perhaps before its module was loaded again.

    Two functions of one file that share a name stand on different lines; a cell that is run again
    has a file of its own.
    """
    known = getattr(task, "__wrapped__", None)
    known = getattr(known, "__func__", known)  # of a bound task
    if known is None or any(getattr(known, k, None) != getattr(fun, k, None) for k in _NAMED_BY):
        return False
    old, new = getattr(known, "__code__", None), getattr(fun, "__code__", None)
    if known is fun or old is None or new is None or old.co_filename != new.co_filename:
        return True
    return bool(old.co_firstlineno == new.co_firstlineno)


def _check_rate(name: str, rate: str | float | None) -> None:
    try:
        rate_per_second(rate)
    except (TypeError, ValueError) as exc:
        raise ValueError(
            f"rate_limit of task `{name}` is `{rate!r}`: expected 10/s, 100/m, 5/h or a number"
        ) from exc
