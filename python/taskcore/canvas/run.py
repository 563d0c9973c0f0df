"""Run: one publish of a composition, as the calls of tasks that it consists of.

Each kind of signature says in `_unfold` which messages it makes now, one after the other, and what
stands for its result; what is to run later travels inside of them. Nothing is sent here: the calls
are handed to the producer as a generator, which writes them in few round trips.
"""

from __future__ import annotations

from taskcore.canvas.check import check
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    Call = tuple[str, Any, dict[str, Any], dict[str, Any], int | None]
    """Task, arguments, options, and the place in its group where the options are those of all
    members. Calls that share one dict of options share it on purpose: what it means is worked out
    once."""
    Calls = Generator[Call, None, Any]


class Run:
    """One publish of a composition."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.count = 0
        """Calls given so far; who gives one counts it."""
        self._result: Any = None
        self._parent = app.producer.parent({})
        self._groups: list[Any] = []
        """What stands for the groups that the running task publishes."""

    def calls(self, sig: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
        """All that is published now."""
        self._result = yield from sig._unfold(self, tuple(args or ()), dict(kwargs or {}), options)

    def result(self, sent: Any) -> Any:
        """What stands for the whole; `sent` gives the result of each call by its number."""
        return self._result(sent) if callable(self._result) else self._result

    def begin_group(self, options: dict[str, Any]) -> bool:
        """Whether the running task is to tell of a group with these options, which are those of its
        members: then it tells of none of them alone."""
        told = self._parent is not None and options.get("add_to_parent", True)
        if told:
            options["add_to_parent"] = False
        return told

    def group_result(self, group_id: str, members: list[Any], told: bool) -> Any:
        """What stands for a group.

        Args:
            members: results; the number of a call where its task has been given no id yet, or a
                function that gives the result when the calls are sent.
            told: what `begin_group` said.
        """
        make = self.app.GroupResult
        if not any(type(one) is int or callable(one) for one in members):
            made = make(group_id, members)
        else:
            made = _Later(lambda sent: make(group_id, [_known(one, sent) for one in members]))
        if told:
            self._groups.append(made)
        return made

    def tell(self, sent: Any) -> None:
        """Records the groups for the running task, as its children."""
        for one in self._groups:
            self.app.producer.tell_group(self._parent, one(sent) if callable(one) else one)


class _Later:
    """A result that is known when the calls are sent; made once."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._made: Any = None

    def __call__(self, sent: Any) -> Any:
        if self._made is None:
            self._made = self._make(sent)
        return self._made


def _known(member: Any, sent: Any) -> Any:
    """The result of a member, once the calls are sent."""
    if type(member) is int:
        return sent(member)
    return member(sent) if callable(member) else member


def start(sig: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
    """Publishes a composition; gives what stands for its result.

    Raises:
        As `check`, before anything is sent; and as `Task.apply_async`.
    """
    app = sig.app
    app.finalize()
    check(sig, app, names=app.producer.followed() is None)
    run = Run(app)
    sent = app.producer.send_workflow(run.calls(sig, args, kwargs, options))
    result = run.result(sent)
    run.tell(sent)
    return result
