"""Chord: a group, and what runs with the values of all its members when the last one has returned."""

from __future__ import annotations

from taskcore.canvas import stamps
from taskcore.canvas.check import check_arguments
from taskcore.canvas.compose import flatten, kind, with_one_value
from taskcore.canvas.group import spread, to_members, unfold_members
from taskcore.canvas.links import listed
from taskcore.canvas.members import Members
from taskcore.canvas.run import start
from taskcore.canvas.signature import Signature, as_signature, make
from taskcore.typed import TYPE_CHECKING, Any, Mapping
from taskcore.utils import is_mapping, uuid

if TYPE_CHECKING:
    from taskcore.canvas.run import Calls, Run

_MEMBER = ("chord", "group_id", "group_index")
_NOT_FOR_BODY = frozenset({"parent_id", "task_id", "countdown", "eta", "chain", "add_to_parent"})
_NOT_FOR_HEADER = frozenset({"task_id", "chain", "link", "link_error", *_MEMBER})


@Signature.register_type()
class chord(Signature):  # noqa: N801 - Celery's name
    """`chord(header)(body)`, or `group(...) | body`: the body gets the list of the header's values,
    in their order. If a member of the header fails, the body fails with a ChordError."""

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Any = None,
        kwargs: Any = None,
        app: Any = None,
        **options: Any,
    ) -> None:
        """
        Args:
            header: signatures, or a group.
            body: a signature; it may also be given at the call.
            options: for header and body; links are the body's.
        """
        inside = {**(kwargs or {"kwargs": {}}), "header": _header(header, app)}
        inside["body"] = as_signature(body, app)
        super().__init__(task, args, inside, options, app=app, subtask_type="chord")

    @classmethod
    def _of(cls, d: Mapping[str, Any], app: Any) -> Signature:
        sig = super()._of(d, app)
        inside = sig["kwargs"] = {"kwargs": {}, **sig["kwargs"]}
        header = inside.get("header") or ()
        if is_mapping(header) and kind(header) == "group":
            inside["header"] = as_signature(header, app)
        else:
            inside["header"] = _header(header, app)
        inside["body"] = as_signature(inside.get("body"), app)
        return sig

    @property
    def tasks(self) -> Any:
        """The header: a list of signatures, or a group."""
        return self["kwargs"]["header"]

    @tasks.setter
    def tasks(self, tasks: Any) -> None:
        self["kwargs"]["header"] = tasks

    @property
    def body(self) -> Any:
        """What runs after the header."""
        return self["kwargs"]["body"]

    @body.setter
    def body(self, body: Any) -> None:
        self["kwargs"]["body"] = body

    @property
    def app(self) -> Any:
        """The app that it is sent through: its own, or that of its first task, or its body's."""
        if self._app is not None:
            return self._app
        header = self.tasks
        first = header.first() if isinstance(header, Members) else next(iter(self._members), None)
        if first is not None:
            return first.app
        return super().app if self.body is None else self.body.app

    def header_group(self) -> Any:
        """The header as a group, which it is from now on."""
        if kind_of(self.tasks) != "group":
            self.tasks = make("group", self.tasks, self._app)
        return self.tasks

    @property
    def _members(self) -> Any:
        return self.tasks.tasks if kind_of(self.tasks) == "group" else self.tasks

    def clone(self, args: Any = None, kwargs: Any = None, **opts: Any) -> chord:
        """A copy, with a copy of its body."""
        new = super().clone(args, kwargs, **opts)
        new["kwargs"]["body"] = None if self.body is None else self.body.clone()
        return new

    def _then(self, other: Signature) -> Signature:
        one = other._unrolled()
        if kind(other) == "chain" or kind(one) == "group":
            return super()._then(other)
        new = self.clone()
        new.body = new.body | one
        return new

    def link(self, callback: Any) -> Any:
        """Has the body followed by it."""
        self.body.link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Has it follow a failure of the body or, which is the body's too, of the header; with the
        setting `task_allow_error_cb_on_chord_header` also that of each header task for itself."""
        errback = as_signature(errback)
        each = self.app.conf["task_allow_error_cb_on_chord_header"]
        for task in self._members if each or not isinstance(self._members, Members) else ():
            if each:
                task.link_error(errback.clone())
            if kind(task) == "chord":
                task.link_error(errback)
        self.body.link_error(errback)
        return errback

    def set_immutable(self, immutable: bool) -> None:
        """Whether the header takes arguments from what runs before."""
        for task in self._members:
            task.set_immutable(immutable)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> None:
        """Stamps header and body."""
        more = None if visitor is None else visitor.on_chord_header_start(self, **headers) or {}
        headers = stamps.merge(headers, more, append_stamps, self["options"])
        self.stamp_links(visitor, append_stamps, **headers)
        for task in self._members:
            task.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_chord_header_end(self, **headers)
        if visitor is not None and self.body is not None:
            # As in Celery, stamps without a visitor are the header's alone.
            more = visitor.on_chord_body(self, **headers) or {}
            headers = stamps.merge(headers, more, append_stamps, self["options"])
            self.body.stamp(visitor, append_stamps, **headers)

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Signature | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Gives header and body their ids, in place; the result of the body, whose parent is that
        of the header. `_id` and the group are the body's."""
        header = self.header_group()
        header.tasks = [with_one_value(task) for task in spread(header.tasks)]
        before = header.freeze(root_id=root_id, parent_id=parent_id)
        self.id = header.id
        if self.body is None:
            return None
        result = self.body.freeze(_id, group_id, chord, root_id=root_id, group_index=group_index)
        _first(result).parent = before
        return result

    _freeze = freeze

    # Calling

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Sends it, with this body."""
        return self.apply_async((), {"body": body} if body is not None else {}, **options)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Sends the header, with arguments added; the result of the body.

        Args:
            kwargs: for the header; `body` is the body.
            options: for header and body; `task_id` and links are the body's, `countdown` and `eta`
                the header's.
        """
        if self.app.conf["task_always_eager"]:
            return self.apply(args, kwargs, **options)
        kwargs = dict(kwargs or {})
        sig = self
        if (body := kwargs.pop("body", None)) is not None:
            sig = self.clone()
            sig.body = as_signature(body, self._app, clone=True)
        return start(sig, args, kwargs, options)

    def _unfold(self, run: Run, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
        own = self.merged((), None, options)[2]
        header = self.tasks
        named = header.id if kind_of(header) == "group" else None
        body, body_id = self.body.clone(), own.pop("task_id", None)
        if named is None and body.id is not None:
            named = body_id
        group_id = named or uuid()
        body, result = _frozen_body(body, body_id, group_id, own)
        shared = {k: v for k, v in own.items() if k not in _NOT_FOR_HEADER}
        if kind_of(header) == "group":
            shared = header.merged((), None, shared)[2]
        shared = {k: v for k, v in shared.items() if k not in _NOT_FOR_HEADER}
        shared |= {"group_id": group_id, "chord": body}
        arguments = (args if self["immutable"] else (*args, *self["args"]), kwargs)
        arguments = arguments[0], {**self["kwargs"].get("kwargs", {}), **arguments[1]}
        check_arguments(self._members, run.app)
        told = run.begin_group(shared)
        results: list[Any] = []
        members = (with_one_value(task) for task in spread(self._members, take=True))
        calls = unfold_members(run, members, shared, arguments, results)
        yield from _declaring(run, group_id, calls, results)
        if not results:
            yield from body._unfold(run, ([],), {}, {})
        before = run.group_result(group_id, results, told)
        if not callable(before):
            _first(result).parent = before
            return result

        def named_result(ids: list[str]) -> Any:
            _first(result).parent = before(ids)
            return result

        return named_result

    def apply(
        self, args: Any = None, kwargs: Any = None, propagate: bool = True, **options: Any
    ) -> Any:
        """Runs header and body here and now; the result of the body."""
        kwargs = dict(kwargs or {})
        given = options.pop("body", None) or kwargs.pop("body", None)
        body = as_signature(given, self._app) or self.body
        body = body.clone()
        own = self.merged((), None, options)[2]
        _link_body(body, own)
        header = make("group", [with_one_value(task) for task in spread(self._members)])
        header._app = self._app
        done = header.apply(
            (*(args or ()), *self["args"]), {**self["kwargs"].get("kwargs", {}), **kwargs}
        )
        values = done.get(propagate=propagate, disable_sync_subtasks=False)
        result = body.apply((values,))
        _first(result).parent = done
        return result

    def __length_hint__(self) -> int:
        return sum(1 for _ in spread(self._members))

    def __repr__(self) -> str:
        if self.body is None:
            return f"<chord without body: {list(self._members)!r}>"
        members, body = list(self._members), self.body
        if kind(body) == "chain" and body.tasks and kind(body.tasks[0]) is None:
            first, *rest = body.tasks
            return f"%({' | '.join([first.reprcall(members), *map(repr, rest)])})"
        return f"%{body.reprcall(members)}" if kind(body) is None else f"%{body!r}({members!r})"


def kind_of(header: Any) -> str | None:
    """Of a header: `group`, or None for a list."""
    return kind(header) if is_mapping(header) else None


def _header(header: Any, app: Any) -> Any:
    """What a chord is made with, as its members."""
    if is_mapping(header):
        sig = as_signature(header, app)
        header = sig["kwargs"]["tasks"] if kind(sig) in ("group", "chain") else [sig]
    return to_members(header, app)


def _first(result: Any) -> Any:
    """The first of a result and its parents."""
    while result.parent is not None:
        result = result.parent
    return result


def _link_body(body: Any, options: dict[str, Any]) -> None:
    """What a chord links to follows its body."""
    for callback in listed(options.pop("link", None)):
        body.link(as_signature(callback))
    for errback in listed(options.pop("link_error", None)):
        body.link_error(as_signature(errback))


def _frozen_body(
    body: Any, body_id: str | None, group_id: str, own: dict[str, Any]
) -> tuple[Any, Any]:
    """The body as the messages of the header carry it, with what follows the chord, and its result.

    Args:
        own: the options of the chord; the links are taken out.
    """
    _link_body(body, own)
    member = {key: own.get(key) for key in _MEMBER}
    for key, value in own.items():
        if key not in _NOT_FOR_BODY and key not in _MEMBER:
            body["options"][key] = value
    rest = listed(own.get("chain"))
    if rest and kind(body) == "group":
        steps = flatten([body, *(as_signature(one) for one in reversed(rest))], body._app)
        body, rest = make("chain", steps, body._app), []
    if member["group_id"] is None and kind(body) in (None, "chain"):
        # As Celery's; without a chord it is no member of that group.
        member["group_id"] = group_id
    result = body.freeze(body_id, root_id=own.get("root_id"), **member)
    if rest:
        body["options"]["chain"] = rest
    return body, result


def _declaring(run: Run, group_id: str, calls: Calls, results: list[Any]) -> Calls:
    """The calls of a header. The store is told how many there are when all are known to be good and
    the last is not sent yet (see `many.send_workflow`): whoever ends last then finds that it was the
    last."""
    yield from calls
    if results:
        run.app.backend.declare_join(group_id, len(results))
