"""What runs after what: the rules by which signatures become chains and chords.

Two sets. `fold` is what `|` and `chain(...)` do, with the dict forms of Celery's. `flatten` is what
is sent: a list of steps of which each is a task, a chord whose body is one step, or, at the end
alone, a group. A group with something after it becomes a chord in both.
"""

from __future__ import annotations

from taskcore.canvas.signature import Signature, as_signature, make
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


MAX_TURNS = 150
"""Groups that follow each other in a chain, with tasks between them. They are no levels where they
are sent, but as long as they are composed each is inside of the one before."""


TOO_MANY_TURNS = (
    f"the workflow has more than `{MAX_TURNS}` groups that follow each other, expected at most that: "
    "have the last task of one part start the next"
)


def kind(sig: Any) -> str | None:
    """`chain`, `group`, `chord`; None for a task."""
    found: str | None = sig.get("subtask_type")
    return found


def make_chord(header: Any, body: Any, app: Any = None, options: Any = None) -> Any:
    """A chord of these, of the class that is registered for it; a header that is a group of no
    options of its own is its members, as in Celery."""
    if isinstance(header, Signature) and not header["options"]:
        header = header["kwargs"]["tasks"]
    inside = {"kwargs": {}, "header": header, "body": body}
    wire = {"task": "celery.chord", "args": (), "kwargs": inside}
    more = {"options": dict(options or {}), "subtask_type": "chord", "immutable": False}
    return Signature.from_dict({**wire, **more}, app)


def is_empty(sig: Any) -> bool:
    """Whether it is a group or a chain without members."""
    if kind(sig) not in ("group", "chain"):
        return False
    tasks = sig["kwargs"]["tasks"]
    return isinstance(tasks, (list, tuple)) and not tasks


# What `|` and `chain(...)` do


def fold(tasks: Iterable[Any], app: Any = None) -> list[Any] | Signature:
    """`a | b | c` of these, without changing them: the steps of a chain, or what is no chain.

    Raises:
        ValueError: so many groups with tasks between them that they cannot be composed.
    """
    folded: list[Any] | Signature = []
    try:
        for task in tasks:
            folded = added(folded, as_signature(task), app)
    except RecursionError:
        raise ValueError(TOO_MANY_TURNS) from None
    return folded


def added(steps: list[Any] | Signature, other: Any, app: Any) -> list[Any] | Signature:
    """The steps with `other` after them; they may be changed."""
    if isinstance(steps, Signature):
        joined: Signature = steps | other
        return list(joined["kwargs"]["tasks"]) if kind(joined) == "chain" else joined
    if is_empty(other):
        return steps
    other = other._unrolled()
    if kind(other) == "chain":
        for task in other.unchain_tasks():
            steps = added(steps, task, app)
        return steps
    last = steps[-1] if steps else None
    if kind(other) == "group" and last is None:
        return other  # type: ignore[no-any-return]
    if last is not None and kind(last) == "chord" and kind(other) != "chord":
        last["kwargs"]["body"] = extended(last["kwargs"]["body"], other)
    elif last is not None and kind(last) == "group" and kind(other) != "group":
        steps[-1] = make_chord(last, other.clone(), app)
        if len(steps) > 1 and kind(steps[-2]) == "chord":
            before = steps[-2]["kwargs"]
            before["body"] = extended(before["body"], steps.pop())
    else:
        steps.append(other.clone())
    return steps


def extended(body: Any, other: Any) -> Any:
    """`body | other` where the body belongs to nobody else: a chain is changed in place."""
    if kind(body) == "chain" and body["kwargs"]["tasks"]:
        more = added(body["kwargs"]["tasks"], other, body._app)
        return body if isinstance(more, list) else more
    return body | other


# What is sent


def flatten(tasks: Iterable[Any], app: Any = None) -> list[Any]:
    """The steps of a chain of these tasks, as copies.

    An empty group among them is left out; alone, it is the only step.
    """
    return _flattened([as_signature(task, app).clone() for task in tasks])


def _flattened(tasks: list[Any]) -> list[Any]:
    """The same, of tasks that nobody else has: a copy of each at every level would be as many as the
    square of the levels."""
    steps: list[Any] = []
    waiting = tasks[::-1]
    nothing = None
    while waiting:
        task = _unrolled_copy(waiting.pop())
        if is_empty(task):
            nothing = task if kind(task) == "group" else nothing
        elif kind(task) == "chain":
            waiting += reversed(task.linked_tasks())
        else:
            if kind(task) == "chord":
                waiting += reversed(_take_rest(task))
            following = after_group(_unroll_end(steps[-1]), task) if steps else None
            if following is None:
                steps.append(task)
            else:
                steps[-1] = following
    return steps or ([nothing] if nothing is not None else [])


def _unrolled_copy(sig: Any) -> Any:
    """The one member of a group of one, as a copy; otherwise itself."""
    one = sig._unrolled()
    return sig if one is sig else one.clone()


def _unroll_end(sig: Any) -> Any:
    """The same, where the body of a chord is no group of one: followed by another, that is its
    member."""
    if kind(sig) == "chord" and (body := sig["kwargs"]["body"]) is not None:
        sig["kwargs"]["body"] = _unroll_end(_unrolled_copy(body))
    return sig


def _take_rest(chord: Any) -> list[Any]:
    """Leaves a chord whose body is a chain the first step of it; gives the others."""
    inside, body = chord["kwargs"], chord["kwargs"]["body"]
    if body is None or kind(body) != "chain":
        return []
    own = {k: v for k, v in body["options"].items() if k not in _OF_THE_LAST}
    first, *rest = _flattened(body.linked_tasks()) or [None]
    if first is not None:
        inside["body"] = first.clone(**own) if own else first
    return rest


_OF_THE_LAST = frozenset(
    {"chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"}
)
"""Options of a chain that are not for its first task."""


def after_group(sig: Any, step: Any) -> Any:
    """What runs `step` with the results of the group that `sig` is or ends in; None when it ends in
    no group. `sig` may be changed."""
    if kind(sig) == "group":
        return make_chord(sig, step, sig._app)
    if kind(sig) == "chord" and sig["kwargs"]["body"] is not None:
        following = after_group(sig["kwargs"]["body"], step)
        if following is not None:
            sig["kwargs"]["body"] = following
            return sig
    if kind(sig) == "chain" and sig["kwargs"]["tasks"]:
        tasks = sig["kwargs"]["tasks"]
        following = after_group(tasks[-1], step)
        if following is not None:
            tasks[-1] = following
            return sig
    return None


def with_one_value(sig: Any) -> Any:
    """The same with one task at its end, whose value is the list that the group would give.

    A chord counts its members by their tasks and takes one value of each; a member, or what
    replaces a task, that ends in a group gives its list so.
    """
    if kind(sig) is None:
        return sig
    app, sig = sig._app, sig.clone()
    collect = Signature("celery.accumulate", (), {"index": 0}, app=app)
    following = after_group(sig, collect)
    return sig if following is None else following


def as_chain(tasks: Any, app: Any = None, options: Any = None) -> Any:
    """One task itself, several as a chain."""
    tasks = list(tasks)
    return tasks[0] if len(tasks) == 1 and not options else make("chain", tasks, app, options)
