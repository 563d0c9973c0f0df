"""Every so often."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from taskcore.schedules.base import BaseSchedule, schedstate
from taskcore.utils.time import humanize_seconds


class schedule(BaseSchedule):  # noqa: N801 - Celery's name
    """Due again when so much time has passed.

    Args:
        run_every: seconds, or a timedelta.
        relative: rounds each due time down to the interval's unit: one of hours is due on the hour,
            one of days at midnight.
        nowfun, app: see `BaseSchedule`.
    """

    relative = False

    def __init__(
        self,
        run_every: float | timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        self.run_every: Any = _as_delta(run_every)
        self.relative = relative
        super().__init__(nowfun=nowfun, app=app)

    @property
    def seconds(self) -> float:
        """The interval."""
        return max(float(self.run_every.total_seconds()), 0.0)

    @property
    def human_seconds(self) -> str:
        """The interval in the largest unit that it fills."""
        return humanize_seconds(self.seconds)

    def next_after(self, last_run_at: datetime) -> datetime:
        """When the interval has passed."""
        due: datetime = last_run_at.astimezone(UTC) + self.run_every
        return _rounded(due.astimezone(self.tz), self.seconds) if self.relative else due

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        """Whether the interval has passed, and in how many seconds to ask again."""
        remaining = max(self.remaining_estimate(last_run_at).total_seconds(), 0.0)
        if remaining > 0:
            return schedstate(False, remaining)
        if self.relative:
            again = self.remaining_estimate(self.now()).total_seconds()
            return schedstate(True, again if again > 0 else self.seconds)
        return schedstate(True, self.seconds)

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, schedule):
            return bool(self.run_every == other.run_every)
        return bool(self.run_every == other)

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)


def maybe_schedule(s: Any, relative: bool = False, app: Any = None) -> Any:
    """A schedule of seconds or a timedelta; one that is a schedule is given the app."""
    if s is None:
        return None
    if isinstance(s, (int, float, timedelta)):
        return schedule(s, relative, app=app)
    s.app = app
    return s


def _as_delta(value: Any) -> Any:
    return timedelta(seconds=value) if isinstance(value, (int, float)) else value


def _rounded(due: datetime, interval: float) -> datetime:
    """Down to the largest unit that the interval fills."""
    if interval >= 86400:
        due = due.replace(hour=0, minute=0, second=0)
    elif interval >= 3600:
        due = due.replace(minute=0, second=0)
    elif interval >= 60:
        due = due.replace(second=0)
    return due.replace(microsecond=0)
