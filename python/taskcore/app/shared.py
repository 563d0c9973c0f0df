"""Tasks for whichever app is current, and the stand-ins `current_app` and `current_task`.

A library defines tasks before it knows the app: `shared_task` registers the function with every
app that exists or will exist and returns a stand-in that resolves to the current app's task at
each use.
"""

from __future__ import annotations

from taskcore import current
from taskcore.app import registry
from taskcore.local import Proxy
from taskcore.task import Task
from taskcore.typed import TYPE_CHECKING, Any, Callable, Coroutine, Literal, P, R

if TYPE_CHECKING:
    from typing import overload


if TYPE_CHECKING:

    @overload
    def shared_task(
        fun: Callable[P, Coroutine[Any, Any, R]], /
    ) -> registry.CoroutineTask[P, R]: ...
    @overload
    def shared_task(fun: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def shared_task(*, bind: Literal[True], **options: Any) -> registry.BoundDecorator: ...
    @overload
    def shared_task(*, bind: Literal[False] = False, **options: Any) -> registry.Decorator: ...


def shared_task(fun: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a task for every app; options as for `Taskcore.task`."""
    if fun is None:
        return lambda function: _share(function, options)
    return _share(fun, options)


def _share(fun: Callable[..., Any], options: dict[str, Any]) -> Task[..., Any]:
    def add(app: Any) -> Task[..., Any]:
        made: Task[..., Any] = app.task(**options)(fun)
        return made

    def resolve() -> Task[..., Any]:
        app = current.get_app()
        name = options.get("name") or app.gen_task_name(fun.__name__, fun.__module__)
        found: Task[..., Any] = app.tasks[name]
        return found

    current.add_shared_task(add)
    shared: Any = Proxy(resolve)
    return shared  # type: ignore[no-any-return] # it stands in for the task


current_app: Any = Proxy(current.get_app)
"""The app that is meant when none was named."""


def _running() -> Task[..., Any] | None:
    """The task that runs now, of whichever app it is."""
    apps = (current.get_app(), *current.all_apps())
    return next((task for app in apps if (task := app.current_task) is not None), None)


current_task: Any = Proxy(_running)
"""The task that runs now; false when none does."""
