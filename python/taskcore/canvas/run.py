"""Run: one publish of a composition, as the calls of tasks that it consists of.

Each kind of signature says in `_unfold` which messages it makes now, one after the other, and what
stands for its result; what is to run later travels inside of them. Nothing is sent here: the calls
are handed to the producer as a generator, which writes them in few round trips.
"""

from __future__ import annotations

from taskcore.canvas.check import check
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
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

    def calls(self, sig: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
        """All that is published now."""
        self._result = yield from sig._unfold(self, tuple(args or ()), dict(kwargs or {}), options)

    def result(self, sent: Any) -> Any:
        """What stands for the whole; `sent` gives the result of each call by its number."""
        return self._result(sent) if callable(self._result) else self._result

    def group_result(self, group_id: str, members: list[Any]) -> Any:
        """What stands for a group.

        Args:
            members: results; the number of a call where its task has been given no id yet, or a
                function that gives the result when the calls are sent.
        """
        make = self.app.GroupResult
        if not any(type(one) is int or callable(one) for one in members):
            return make(group_id, members)
        return lambda sent: make(group_id, [_known(one, sent) for one in members])


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
    return run.result(app.producer.send_workflow(run.calls(sig, args, kwargs, options)))
