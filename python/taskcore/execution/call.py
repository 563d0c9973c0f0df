"""One call on its way through the steps of its execution: what is known of it, and what has become
of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskcore import states
from taskcore.execution import outcome
from taskcore.execution.outcome import Outcome

_UNFINISHED = Outcome(outcome.FAILURE, states.FAILURE, None, None, "")


class Call:
    """One call on its way through the steps."""

    __slots__ = (
        "args",
        "exc",
        "kwargs",
        "outcome",
        "plan",
        "request",
        "retval",
        "runtime",
        "task",
    )

    def __init__(
        self, plan: Any, request: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        self.plan = plan
        self.task = plan.task
        self.request = request
        self.args = args
        self.kwargs = kwargs
        self.retval: Any = None
        """Set by `call`; read by the steps after it."""
        self.runtime = 0.0
        """Seconds; as `retval`."""
        self.exc: BaseException | None = None
        """Set by whatever ended the call early; the final one, so a Retry when it was retried
        automatically."""
        self.outcome: Outcome = _UNFINISHED
        """Set by `succeed` or `failed`."""

    @property
    def id(self) -> str:
        """Task id."""
        return str(self.request.id)
