"""What is refused before a composition is sent: half of a workflow is worse than none of it."""

from __future__ import annotations

from taskcore.canvas.compose import MAX_TURNS, TOO_MANY_TURNS, kind
from taskcore.canvas.links import listed
from taskcore.canvas.members import Members
from taskcore.canvas.signature import as_signature
from taskcore.exceptions import ImproperlyConfigured, NotRegistered
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import hint, is_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CHUNK = 1000
"""Messages that the core encodes before it sends the first of them."""
MAX_DEPTH = 64
"""Compositions and links inside of each other. Each takes up to seven levels of lists and dicts in
a message, of which the encodings take 512."""


def check(sig: Any, app: Any, names: bool = True) -> None:
    """Refuses a composition that could not run to its end.

    Args:
        names: refuse tasks that the app does not have; a worker passes on what came from others.
    Raises:
        NotRegistered: a task that the app does not have, and that is not routed to others.
        ImproperlyConfigured: a chord, and no store that could count its members.
        ValueError: a chord whose member keeps no result; more than `MAX_DEPTH` levels, or
            `MAX_TURNS` groups after each other; a signature inside of itself.
        TypeError: a part that is no signature, or a chord without a body.
    """
    known = _Known(app)
    path: list[int] = []
    # With each its place in the path, and its level, which a chain as a body does not raise: what
    # follows the first of it follows the chord.
    waiting: list[tuple[Any, int, int]] = [(as_signature(sig), 0, 0)]
    while waiting:
        one, place, level = waiting.pop()
        del path[place:]
        if id(one) in path:
            raise ValueError(f"a {kind(one) or 'signature'} is inside of itself: `{one['task']}`")
        _check_depth(place, level)
        path.append(id(one))
        if kind(one) is None:
            if names:
                known.check(one)
        elif kind(one) == "chord":
            _check_chord(one, app)
        for part, groups in _with_groups_before(one):
            if kind(part) is None and not part["options"]:
                if names:
                    known.check(part)
            else:
                goes_on = (
                    kind(one) == "chord" and kind(part) == "chain" and part is one["kwargs"]["body"]
                )
                below = level + groups
                waiting.append((part, place + 1, below - 1 if goes_on else below + 1))


def _with_groups_before(sig: Any) -> Iterator[tuple[Any, int]]:
    """The parts of a signature, each with how many groups in a chain it follows without a task between
    them: where it is sent it is so many levels deeper, the body of the chord that they become."""
    groups = 0
    for part in parts(sig):
        yield part, groups
        in_group = kind(sig) == "chain" and kind(_last(part._unrolled())) == "group"
        groups = groups + 1 if in_group else 0


def _check_depth(place: int, level: int) -> None:
    if place >= 2 * MAX_TURNS:
        raise ValueError(TOO_MANY_TURNS)
    if level >= MAX_DEPTH:
        raise ValueError(
            f"the workflow is more than `{MAX_DEPTH}` levels deep, expected at most that: start the inner "
            "part from a task, or use a chain, which is one level however long it is, but for groups that "
            "follow groups in it"
        )


def check_arguments(members: Any, app: Any) -> None:
    """Refuses arguments of a long list of members that cannot be encoded, before the first of them
    is sent; those of a short one are encoded before that anyway.

    Raises:
        EncodeError: with the place of the value.
    """
    if not isinstance(members, list) or len(members) <= CHUNK:
        return
    from taskcore import serialize

    default = app.conf.default_serializer(app.conf.protocol)
    for member in members[CHUNK:]:
        args, kwargs = member["args"], member["kwargs"]
        if not kwargs and all(map(_is_writable, args)):
            continue
        task = app.tasks.get(member["task"])
        own = member["options"].get("serializer") or (task and vars(task).get("serializer"))
        serialize.dumps([list(args), kwargs], own or default)


def _is_writable(value: Any) -> bool:
    """Whether every serializer writes it; most values, told without one."""
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 63
    return type(value) in (float, bool, type(None)) or (type(value) is str and value.isascii())


def parts(sig: Any) -> Iterator[Any]:
    """What a signature is made of and links to; members that are still in their generator are left
    there."""
    inside = sig["kwargs"] if kind(sig) else {}
    for name in ("tasks", "header"):
        tasks = inside.get(name) or ()
        if is_mapping(tasks):
            tasks = tasks["kwargs"]["tasks"]
        if not isinstance(tasks, Members) or tasks.is_read:
            yield from map(as_signature, tasks)
    if inside.get("body") is not None:
        yield inside["body"]
    for name in ("link", "link_error"):
        if name in sig["options"]:
            yield from map(as_signature, listed(sig["options"][name]))


class _Known:
    """The names of tasks that may be called."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._names: set[str] = set()

    def check(self, sig: Any) -> None:
        name = sig["task"]
        if name in self._names:
            return
        app = self._app
        tasks = app.tasks
        # Who has no tasks calls those of others; so does who says where they run.
        elsewhere = "queue" in sig["options"] or app.producer.routing.queue_of(name)
        if name not in tasks and app.has_own_tasks and not elsewhere:
            raise NotRegistered(
                f"no task named `{name}`{hint(name, tasks)}: register it, or say which queue has "
                "workers that know it, by `sig.set(queue=...)` or in `task_routes`"
            )
        if "queue" not in sig["options"]:
            self._names.add(name)


def _check_chord(sig: Any, app: Any) -> None:
    body = sig["kwargs"]["body"]
    if body is None:
        raise TypeError("a chord without a body: expected a signature, as in `chord(header)(body)`")
    if app.results_or_none is None:
        raise ImproperlyConfigured(
            "a chord needs a result store that counts its members: pass backend= to Taskcore or set "
            "result_backend"
        )
    header = sig["kwargs"]["header"]
    header = header["kwargs"]["tasks"] if is_mapping(header) else header
    if isinstance(header, Members) and not header.is_read:
        return
    ignoring = {name for name, task in app.tasks.items() if task.ignore_result}
    for member in header:
        last = _last(member)
        said = last["options"].get("ignore_result")
        if said or (said is None and last["task"] in ignoring):
            raise ValueError(
                f"member `{last['task']}` of a chord has `ignore_result`: the body is called with the results "
                "of all members; use a group, or have it keep its result"
            )


def _last(member: Any) -> Any:
    """The task whose value is that of a member."""
    while True:
        inside = member["kwargs"]
        if kind(member) == "chain" and inside["tasks"]:
            member = inside["tasks"][-1]
        elif kind(member) == "chord" and inside["body"] is not None:
            member = inside["body"]
        else:
            return member
