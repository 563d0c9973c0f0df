"""Signature: a call as a value, to be kept, passed on and sent later.

It is a dict with exactly Celery's six keys, so it crosses the wire as it is, in both directions.
What it is bound to (the app, and through it the task) is an attribute beside the dict and never
sent. A signature from the wire may be plain: every function that takes a signature takes a dict as
well. Compositions are subclasses; `TYPES` has them by the name that `subtask_type` says.
"""

from __future__ import annotations

from taskcore import current
from taskcore.canvas import stamps
from taskcore.typed import (
    TYPE_CHECKING,
    Any,
    Callable,
    ClassVar,
    Iterator,
    Mapping,
    Sequence,
    later,
)
from taskcore.utils import is_mapping, uuid

if TYPE_CHECKING:
    from typing import TypeVar

    from taskcore.canvas.run import Calls, Run

    S = TypeVar("S", bound="Signature")
else:
    S = later("taskcore.typed", "variable('S')")

_KEPT = frozenset({"group_id", "stamped_headers"})
"""Options where the stored value wins over the one at the call: a member of a chord stays one."""


class _Item:
    """An attribute that is a key of the dict, or of its options."""

    def __init__(self, key: str, part: str | None = None) -> None:
        self.key, self.part = key, part

    def __get__(self, sig: Any, owner: type) -> Any:
        if sig is None:
            return self
        return sig[self.key] if self.part is None else sig[self.part].get(self.key)

    def __set__(self, sig: Any, value: Any) -> None:
        if self.key == "args":
            value = tuple(value)
        (sig if self.part is None else sig[self.part])[self.key] = value


class Signature(dict[str, "Any"]):
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
        task, args, kwargs, options = (_Item(k) for k in ("task", "args", "kwargs", "options"))
        subtask_type, immutable = _Item("subtask_type"), _Item("immutable")
        id = _Item("task_id", "options")
        parent_id, root_id = _Item("parent_id", "options"), _Item("root_id", "options")

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
            self.setdefault("kwargs", {})
            self.setdefault("options", {})
            self.setdefault("subtask_type", None)
            self.setdefault("immutable", False)
            self["args"] = tuple(self.get("args") or ())  # a list on the wire
        else:
            name = task if isinstance(task, str) else getattr(task, "name", None)
            if not isinstance(name, str):
                raise TypeError(
                    f"signature of `{task!r}`: expected a task, the name of one, or a dict"
                )
            kind = more.pop("subtask_type", None)
            super().__init__(
                task=name,
                args=tuple(args or ()),
                kwargs=dict(kwargs or {}),
                options={**(options or {}), **more},
                subtask_type=kind,
                immutable=immutable,
            )
            app = app or getattr(task, "app", None)
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
        own = self["options"]
        task_id = own.get("task_id")
        if task_id is None:
            task_id = own["task_id"] = _id or uuid()
        for key, value in (
            ("root_id", root_id),
            ("parent_id", parent_id),
            ("chord", chord),
            ("group_index", group_index),
        ):
            if value is not None:
                own[key] = value
        if group_id and own.get("group_id") is None:
            own["group_id"] = group_id
        result, reply_to = self.app.producer.promise(self["task"], task_id, own)
        if reply_to and "reply_to" not in own:
            own["reply_to"] = reply_to
        return result

    _freeze = freeze

    # What follows it

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Adds to an option that is a list, unless it is there; gives it back."""
        items = self._list_option(key)
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Adds one or several to an option that is a list."""
        self._list_option(key).extend(listed(value))

    def _list_option(self, key: str) -> list[Any]:
        items = listed(self["options"].get(key))
        self["options"] = {**self["options"], key: items}
        return items

    def link(self, callback: Any) -> Any:
        """Adds what runs with the result after success; gives it back."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Adds what runs after failure; gives it back."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self: S, errback: Any) -> S:
        """As `link_error`, giving back this signature."""
        self.link_error(errback)
        return self

    def flatten_links(self) -> list[Any]:
        """It, and all that it links to, with what those link to."""
        linked = (maybe_signature(one, self._app) for one in listed(self["options"].get("link")))
        return [self, *(sig for one in linked if one is not None for sig in one.flatten_links())]

    # Stamps

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Adds headers that all messages of it carry, and those of what it links to.

        Args:
            visitor: a `StampingVisitor` that says which.
            append_stamps: collect the values of a stamp that is there already in a list.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        more = None if visitor is None else visitor.on_signature(self, **headers) or {}
        return self.set(**stamps.merge(headers, more, append_stamps, self["options"]))

    def stamp_links(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> None:
        """Adds headers to what it links to alone."""
        for option, hook in (("link", "on_callback"), ("link_error", "on_errback")):
            linked = listed(self["options"].get(option))
            said = dict(headers)
            for index, one in enumerate(linked):
                sig = linked[index] = maybe_signature(one, self._app)
                assert sig is not None
                more = None if visitor is None else getattr(visitor, hook)(sig, **said) or {}
                said = stamps.merge(said, more, append_stamps)
                sig.stamp(visitor, append_stamps, **said)
            if linked:
                self["options"] = {**self["options"], option: linked}

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


def unfold_task(sig: Signature, run: Run, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
    """The call of a single task, and what stands for its result."""
    positional, named, own = sig.merged(args, kwargs, options)
    if own.get("task_id") is None:
        own["task_id"] = uuid()
    run.count += 1
    yield sig["task"], positional, named, own, None
    return run.app.producer.promise(sig["task"], own["task_id"], own)[0]


def make(kind: str, tasks: Any, app: Any = None, options: Any = None) -> Signature:
    """A chain or a group of these tasks, as they are, of the class that is registered for it."""
    wire = {"task": f"celery.{kind}", "kwargs": {"tasks": tasks}, "subtask_type": kind}
    return Signature.from_dict({**wire, "args": (), "options": dict(options or {})}, app)


def listed(value: Any) -> list[Any]:
    """What an option of one or several holds, as a fresh list."""
    if not value:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


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


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
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


maybe_subtask = maybe_signature


def signatures(tasks: Any, app: Any = None) -> Iterator[Signature]:
    """Each of these as a signature."""
    for task in tasks:
        yield maybe_signature(task, app)
