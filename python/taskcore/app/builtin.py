"""The tasks that every app has, under the names that Celery's clients send."""

from __future__ import annotations

from taskcore.exceptions import NotSupportedError
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def register(app: Any) -> None:
    """Gives them to an app; those of the program's own under these names stay."""
    for fun, options in _TASKS:
        name = f"celery.{fun.__name__}"
        if name not in app.tasks:
            app.task(name=name, typing=False, **options)(fun)


def accumulate(*args: Any, index: int | None = None) -> Any:
    """Its arguments, or one of them."""
    return args if index is None else args[index]


def map(self: Any, task: Any, it: Any) -> list[Any]:
    """Calls a task with each item."""
    called = self.app.tasks[task["task"]]
    return [called(item) for item in it]


def starmap(self: Any, task: Any, it: Any) -> list[Any]:
    """Calls a task with the arguments of each item."""
    called = self.app.tasks[task["task"]]
    return [called(*item) for item in it]


def chunks(self: Any, task: Any, it: Any, n: int) -> Any:
    """Publishes a group of messages of `n` items each."""
    from taskcore import canvas

    return canvas.chunks.apply_chunks(task, it, n, self.app).as_tuple()


def group(
    self: Any,
    tasks: Any,
    result: Any = None,
    group_id: str | None = None,
    partial_args: Any = (),
    add_to_parent: bool = True,
) -> Any:
    """Publishes a group, as clients of before Celery 3.1 ask for it."""
    from taskcore import canvas

    made = canvas.group(list(tasks), app=self.app)
    return made.apply_async(partial_args, task_id=group_id).as_tuple()


def chain(*args: Any, **kwargs: Any) -> None:
    """No client sends it."""
    raise NotSupportedError("a chain is no task: its first task is sent, with the others in it")


def chord(self: Any, header: Any, body: Any, partial_args: Any = (), **options: Any) -> Any:
    """Publishes a chord, as clients of before Celery 3.1 ask for it."""
    from taskcore import canvas

    made = canvas.chord(header, body, app=self.app)
    return made.apply_async(partial_args).as_tuple()


def backend_cleanup(self: Any) -> None:
    """Deletes what has expired where the store does not do it itself."""
    if self.app.results_or_none is not None:
        self.app.results_or_none.cleanup()


def chord_unlock(
    self: Any,
    group_id: str,
    callback: Any,
    interval: float | None = None,
    max_retries: int | None = None,
    result: Any = None,
    **options: Any,
) -> None:
    """Looks whether the header of a chord has ended, and again later until it has; then publishes
    the body. Clients send it whose store does not count members."""
    from taskcore import canvas
    from taskcore.result import result_from_tuple

    members = [result_from_tuple(one, self.app) for one in result or ()]
    wait = 1.0 if interval is None else interval
    if not all(member.ready() for member in members):
        raise self.retry(countdown=wait, max_retries=max_retries)
    body = canvas.maybe_signature(callback, self.app)
    failed = next((member for member in members if not member.successful()), None)
    if failed is not None:
        from taskcore.exceptions import ChordError

        error = ChordError(f"Dependency {failed.id} raised {failed.result!r}")
        self.app.fail_signature(body, error)
        return
    values = [member.get(disable_sync_subtasks=False) for member in members]
    body.apply_async((values,))


_TASKS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (accumulate, {}),
    (map, {"bind": True}),
    (starmap, {"bind": True}),
    (chunks, {"bind": True}),
    (group, {"bind": True}),
    (chain, {}),
    (chord, {"bind": True}),
    (backend_cleanup, {"bind": True, "ignore_result": True}),
    (chord_unlock, {"bind": True, "max_retries": None, "ignore_result": True}),
)
