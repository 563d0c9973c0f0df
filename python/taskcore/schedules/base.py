"""What every schedule answers: whether a task that ran last then is due, and when to ask again.

A class of your own overrides `is_due` and `remaining_estimate`; the built-in ones say with
`next_after` when they are due next, and the rest follows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from taskcore import current
from taskcore.config.time_zone import zone


class schedstate(NamedTuple):  # noqa: N801 - Celery's name
    """The answer of `is_due`."""

    is_due: bool
    """Whether the task is to be sent now."""
    next: float
    """Seconds until it is worth asking again."""


class BaseSchedule:
    """A schedule.

    Args:
        nowfun: gives the time now, instead of the app.
        app: default: the current app.
    """

    _tz: tzinfo | None = None

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        self.nowfun = nowfun
        self._app = app

    @property
    def app(self) -> Any:
        """The app whose time zone and clock are meant."""
        return self._app if self._app is not None else current.get_app()

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @property
    def tz(self) -> tzinfo:
        """The zone in which it is due: its own, or the app's."""
        own: tzinfo = self.app.timezone if self._tz is None else self._tz
        return own

    @tz.setter
    def tz(self, tz: str | tzinfo | None) -> None:
        self._tz = None if tz is None else zone(tz, True)

    @property
    def utc_enabled(self) -> bool:
        """The setting `enable_utc`."""
        return bool(self.app.conf["enable_utc"])

    def now(self) -> datetime:
        """The time now."""
        now: datetime = (self.nowfun or self.app.now)()
        return now

    def maybe_make_aware(self, dt: datetime, naive_as_utc: bool = True) -> datetime:
        """A time with a zone; one without is in UTC, or in the zone of the schedule."""
        if dt.tzinfo is not None:
            return dt
        return (
            dt.replace(tzinfo=UTC).astimezone(self.tz)
            if naive_as_utc
            else dt.replace(tzinfo=self.tz)
        )

    def to_local(self, dt: datetime) -> datetime:
        """The same moment in the zone of the machine, where UTC is not enabled."""
        return dt if self.utc_enabled else dt.astimezone()

    def next_after(self, last_run_at: datetime) -> datetime:
        """When it is due first after a time, which has a zone."""
        raise NotImplementedError(
            f"`{type(self).__name__}` does not say when it is due: override `is_due` and `remaining_estimate`"
        )

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """How long it is until the next run; negative when that time has passed."""
        due = self.next_after(self.maybe_make_aware(last_run_at))
        return due.astimezone(UTC) - self.maybe_make_aware(self.now()).astimezone(UTC)

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        """Whether it is due, and in how many seconds to ask again."""
        remaining = self.remaining_estimate(last_run_at).total_seconds()
        if remaining > 0:
            return schedstate(False, remaining)
        return schedstate(True, max(self.remaining_estimate(self.now()).total_seconds(), 0.0))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BaseSchedule):
            return other.nowfun == self.nowfun
        return NotImplemented

    __hash__ = None  # type: ignore[assignment] # as in Celery: they can be changed
