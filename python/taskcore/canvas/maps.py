"""Maps and chunks: one task applied to many arguments, in one message or a few."""

from __future__ import annotations

from taskcore.canvas.group import group
from taskcore.canvas.run import start
from taskcore.canvas.signature import Signature
from taskcore.canvas.single import unfold_task
from taskcore.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskcore.canvas.run import Calls, Run


class _Mapped(Signature):
    """A signature of a built-in task that calls another one for each item."""

    _task_name = ""

    def __init__(self, task: Any, it: Any, app: Any = None, **options: Any) -> None:
        """
        Args:
            task: a signature of the task to call.
            it: what to call it with, item by item.
        """
        inside = {"task": task, "it": it if isinstance(it, (list, tuple)) else list(it)}
        super().__init__(self._task_name, (), inside, options, immutable=True, app=app)
        self._app = app or getattr(task, "_app", None)

    def _routed(self, options: dict[str, Any]) -> dict[str, Any]:
        """These options, with the queue of the task that it calls."""
        queue = self.app.producer.routing.queue_of(self["kwargs"]["task"]["task"])
        if queue is None or "queue" in self["options"]:
            return options
        return {"queue": queue, **options}

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Sends it, to the queue of the task that it calls."""
        return super().apply_async((), {}, **self._routed(options))

    def _unfold(self, run: Run, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
        return (yield from unfold_task(self, run, (), {}, self._routed(options)))


@Signature.register_type()
class xmap(_Mapped):  # noqa: N801 - Celery's name
    """`task.map(it)`: calls the task with each item, in one process; a list of what it returns."""

    _task_name = "celery.map"

    def __repr__(self) -> str:
        return f"[{self['kwargs']['task']['task']}(x) for x in {self['kwargs']['it']!r}]"


@Signature.register_type()
class xstarmap(_Mapped):  # noqa: N801 - Celery's name
    """`task.starmap(it)`: the same, where each item is a list of arguments."""

    _task_name = "celery.starmap"

    def __repr__(self) -> str:
        return f"[{self['kwargs']['task']['task']}(*x) for x in {self['kwargs']['it']!r}]"


@Signature.register_type()
class chunks(Signature):  # noqa: N801 - Celery's name
    """`task.chunks(it, n)`: a group of messages, each of which calls the task for `n` items."""

    def __init__(self, task: Any, it: Any, n: int, app: Any = None, **options: Any) -> None:
        """
        Args:
            task: a signature of the task to call.
            it: lists of arguments.
            n: how many of them a message has.
        """
        if type(n) is not int or n < 1:
            raise ValueError(f"n is `{n!r}`: expected how many items a chunk has, 1 or more")
        inside = {"task": task, "it": it if isinstance(it, (list, tuple)) else list(it), "n": n}
        super().__init__("celery.chunks", (), inside, options, immutable=True, app=app)
        self._app = app or getattr(task, "_app", None)

    def group(self) -> group:
        """The chunks as a group."""
        task, it, n = (self["kwargs"][key] for key in ("task", "it", "n"))
        parts = (it[start : start + n] for start in range(0, len(it), n))
        return group([xstarmap(task, list(part), self._app) for part in parts], app=self._app)

    @classmethod
    def apply_chunks(cls, task: Any, it: Any, n: int, app: Any = None) -> Any:
        """Sends the chunks of `it`."""
        return cls(task, it, n, app)()

    def __call__(self, **options: Any) -> Any:
        """Sends it."""
        return self.apply_async(**options)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Sends all chunks; a GroupResult."""
        if self.app.conf["task_always_eager"]:
            return self.apply(args, kwargs, **options)
        return start(self, args, kwargs, options)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Runs all chunks here and now; a GroupResult."""
        return self.group().apply((), {}, **self.merged((), None, options)[2])

    def _unfold(self, run: Run, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
        return (yield from self.group()._unfold(run, (), {}, self.merged((), None, options)[2]))
