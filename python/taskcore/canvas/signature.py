"""Signature: a call as a value, to be kept, passed on and sent later.

It is a dict with exactly Celery's six keys, so it crosses the wire as it is, in both directions.
What it is bound to (the app, and through it the task) is an attribute beside the dict and never
sent. A signature from the wire may be plain: every function that takes a signature takes a dict as
well. Compositions are subclasses; `TYPES` has them by the name that `subtask_type` says.
"""

from __future__ import annotations

from taskcore import current
from taskcore.canvas.links import Linked
from taskcore.canvas.single import Item, freeze_task, unfold_task
from taskcore.typed import TYPE_CHECKING, Any, Callable, ClassVar, Mapping, Sequence, later
from taskcore.utils import is_mapping, uuid

if TYPE_CHECKING:
    from typing import TypeVar

    from taskcore.canvas.run import Calls, Run

    S = TypeVar("S", bound="Signature")
else:
    S = later("taskcore.typed", "variable('S')")

_KEPT = frozenset({"group_id", "stamped_headers"})
"""Options where the stored value wins over the one at the call: a member of a chord stays one."""


class Signature(Linked):
    """A task with arguments and options that has not been called yet."""

    if TYPE_CHECKING:
        TYPES: ClassVar[dict[str, type[Signature]]]
        _is_plain: bool
        _app: Any
        task: str
        args: Any
        kwargs: Any
        options: Any
        subtask_type: Any
        immutable: Any
        id: Any
        parent_id: Any
        root_id: Any
    else:
        TYPES = {}
        _is_plain = True
        _app = None
        task, args, kwargs, options = (Item(k) for k in ("task", "args", "kwargs", "options"))
        subtask_type, immutable = Item("subtask_type"), Item("immutable")
        id = Item("task_id", "options")
        parent_id, root_id = Item("parent_id", "options"), Item("root_id", "options")

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
        if isinstance(task, str):
            name = task
        elif isinstance(task, dict) or not isinstance(getattr(task, "name", None), str):
            self._take(task, app)
            return
        else:
            name, app = task.name, app or getattr(task, "app", None)
        self["task"] = name
        self["args"] = tuple(args) if args else ()
        self["kwargs"] = dict(kwargs) if kwargs else {}
        kind = more.pop("subtask_type", None) if more else None
        self["options"] = {**options, **more} if options else more
        self["subtask_type"] = kind
        self["immutable"] = immutable
        self._app = app

    def _take(self, d: Any, app: Any) -> None:
        if not is_mapping(d):
            raise TypeError(f"signature of `{d!r}`: expected a task, the name of one, or a dict")
        super().__init__(d)
        self.setdefault("kwargs", {})
        self.setdefault("options", {})
        self.setdefault("subtask_type", None)
        self.setdefault("immutable", False)
        self["args"] = tuple(self.get("args") or ())  # a list on the wire
        self._app = app

    # Kinds

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[type[Signature]], type[Signature]]:
        """Makes a class the one of all signatures whose `subtask_type` is `name` (its own name by
        default); a decorator. It may replace `chain`, `group` and the other kinds."""

        def register(subclass: type[Signature]) -> type[Signature]:
            Signature.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Signature:
        """A signature of the kind that the dict says."""
        kind = d.get("subtask_type")
        if not kind:
            return Signature._of(d, app)
        if kind not in Signature.TYPES:
            raise ValueError(
                f"subtask_type is `{kind!r}`: expected {', '.join(Signature.TYPES)}, or None for a task"
            )
        return Signature.TYPES[kind]._of(d, app)

    @classmethod
    def _of(cls, d: Mapping[str, Any], app: Any) -> Signature:
        """One of this class with these six keys."""
        sig = cls.__new__(cls)
        Signature.__init__(sig, d, app=app)
        return sig

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._is_plain = False

    # Reading

    @property
    def name(self) -> str:
        """Name of the task."""
        return str(self["task"])

    @property
    def type(self) -> Any:
        """The task; NotRegistered when the app has none of that name."""
        return self.app.tasks[self["task"]]

    @property
    def app(self) -> Any:
        """The app that it is sent through."""
        return self._app or current.get_app()

    def AsyncResult(self, task_id: str) -> Any:  # noqa: N802 - Celery's name
        """The result of a call of it, by id."""
        return self.app.AsyncResult(task_id)

    # Deriving

    def clone(
        self: S,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **opts: Any,
    ) -> S:
        """A copy, with arguments put before its own and options over its own."""
        merged = self.merged(args, kwargs, opts)
        if merged[2]:
            from copy import deepcopy

            # The signatures that it links to are changed in place by many programs.
            merged = merged[0], merged[1], deepcopy(merged[2])
        new = type(self).__new__(type(self))
        dict.__init__(new, self, args=merged[0], kwargs=merged[1], options=merged[2])
        new._app = self._app
        return new

    partial = clone

    def merged(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Arguments and options of a call with these added.

        Args:
            force: add arguments although it is immutable.
        """
        own = self["options"]
        if options:
            kept = _KEPT.union(own["stamped_headers"] or ()) if "stamped_headers" in own else _KEPT
            own = own | {
                k: v
                for k, v in options.items()
                if v is not None and not (k in kept and own.get(k) is not None)
            }
        else:
            own = dict(own)
        if self["immutable"] and not force:
            return self["args"], dict(self["kwargs"]), own
        return (*(args or ()), *self["args"]), {**self["kwargs"], **(kwargs or {})}, own

    def set(self: S, immutable: bool | None = None, **options: Any) -> S:
        """Sets options, in place."""
        if immutable is not None:
            self.set_immutable(immutable)
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

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Signature | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Gives it the id of the task that it becomes, in place, and returns the result of that.

        Send it once after this: each call has the same id.

        Args:
            _id: the id, unless it has one; default: a fresh one.
            group_id, group_index: the group that it is a member of, and its place.
            chord: what runs when all members have.
        """
        member = {"group_id": group_id, "chord": chord, "group_index": group_index}
        return freeze_task(self, _id, {"root_id": root_id, "parent_id": parent_id, **member})

    _freeze = freeze

    def _as_signature(self, one: Any) -> Any:
        return as_signature(one, self._app)

    # Calling

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Sends it with arguments added."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Sends it with arguments and options added; options as for `Task.apply_async`."""
        return self.app.send_signature(self["task"], *self.merged(args, kwargs, options))

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """As `apply_async`, awaited, without blocking the event loop."""
        awaited = self.app.producer.awaited
        return await awaited.call(lambda: self.apply_async(args, kwargs, **options))

    async def adelay(self, *args: Any, **kwargs: Any) -> Any:
        """As `delay`, awaited."""
        return await self.aapply_async(args, kwargs)

    def _unfold(self, run: Run, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
        """As a part of a composition: the calls of tasks that it makes now; what stands for its
        result."""
        if type(self).apply_async is not Signature.apply_async:
            return self.apply_async(args, kwargs, **options)  # a kind of the user's own
        return (yield from unfold_task(self, run, args, kwargs, options))

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Runs it here and now; gives an EagerResult."""
        merged = self.merged(args, kwargs, options)
        return self.type.apply(merged[0], merged[1], **merged[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the task's function in this process."""
        merged = self.merged(args, kwargs)
        return self.type(*merged[0], **merged[1])

    def __invert__(self) -> Any:
        """`~sig`: sends it and waits for the value."""
        return self.apply_async().get()

    def election(self) -> Any:
        """Has one worker of all run it."""
        task_id = self.id or uuid()
        self.app.control.election(task_id, "task", self.clone(task_id=task_id))
        return self.AsyncResult(task_id)

    # As a value

    def __or__(self, other: Any) -> Any:
        """What runs `other` after it, with its result."""
        if not isinstance(other, Signature):
            return NotImplemented
        return self._then(other)

    __ior__ = __or__

    def _then(self, other: Signature) -> Signature:
        other = other._unrolled()
        tasks = other.unchain_tasks() if other["subtask_type"] == "chain" else [other]  # type: ignore[attr-defined]
        return make("chain", [self, *tasks], self._app)

    def _unrolled(self) -> Signature:
        """The one member of a group of one; otherwise itself."""
        return self

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """As a call, with arguments added, for people."""
        merged = self.merged(args, kwargs, force=True)
        parts = [repr(arg) for arg in merged[0]]
        return f"{self['task']}({', '.join(parts + [f'{k}={v!r}' for k, v in merged[1].items()])})"

    def __deepcopy__(self: S, memo: Any) -> S:
        from copy import deepcopy

        new = type(self).__new__(type(self))
        dict.__init__(new, {key: deepcopy(value, memo) for key, value in self.items()})
        new._app = self._app
        return new

    def __reduce__(self) -> Any:
        return signature, (dict(self),)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __repr__(self) -> str:
        return self.reprcall()


def make(kind: str, tasks: Any, app: Any = None, options: Any = None) -> Signature:
    """A chain or a group of these tasks, as they are, of the class that is registered for it."""
    wire = {"task": f"celery.{kind}", "args": (), "kwargs": {"tasks": tasks}}
    more = {"options": dict(options or {}), "subtask_type": kind, "immutable": False}
    return Signature.from_dict({**wire, **more}, app)


def signature(task: Any, *args: Any, **kwargs: Any) -> Signature:
    """A signature of a task, of the name of one, or of a dict; arguments as of `Signature`."""
    if isinstance(task, Signature):
        made = task.clone()
    elif is_mapping(task):
        made = Signature.from_dict(task, kwargs.pop("app", None))
    else:
        return Signature(task, *args, **kwargs)
    kwargs.pop("app", None)
    return made.clone(*args, **kwargs) if args or kwargs else made


subtask = signature


def as_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """Makes a signature of a dict, of the kind that it says; leaves None and signatures alone.

    Args:
        app: what it is sent through.
        clone: give a copy of a signature.
    """
    if isinstance(d, Signature):
        if clone:
            d = d.clone()
    elif is_mapping(d):
        d = Signature.from_dict(d, app)
    elif d is not None:
        raise TypeError(f"got `{d!r}`: expected a signature, as made by `task.s()`")
    if app is not None and d is not None:
        d._app = app
    return d


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """As `as_signature`; where no app is given, what is no signature is given back as it is."""
    if app is None and not is_mapping(d):
        return d
    return as_signature(d, app, clone)


maybe_subtask = maybe_signature
